"""One attempt: a verdict is read from a whole report; whatever its process does, it ends with a cause."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from auditor.forge import forge
from auditor.service.audits.attempt import Attempts
from auditor.service.audits.order import Order
from auditor.service.installation import Installation
from auditor.service.settings import Settings
from auditor.service.store.tables import attempts, audits
from auditor.version import __version__
from tests.servers.hub import Hub
from tests.servers.serving import Server, folder_server
from tests.service.running import attempts_running

Audit = Callable[..., Any]


@pytest.fixture
def database_url(migrated_file: Path, tmp_path: Path) -> str:
    """SQLite alone: what is told here does not depend on the database."""
    (tmp_path / "data").mkdir(mode=0o700)
    file = tmp_path / "data" / "auditor.sqlite3"
    file.write_bytes(migrated_file.read_bytes())
    return f"sqlite:///{file}"


def attempt(installation: Installation, order: Order, n: int = 1, **settings: Any) -> Any:
    """The audit's row after one attempt."""
    changed = Settings(**{**installation.settings.model_dump(), "database": None, **settings})
    worker = Attempts(installation.audits, installation.reports, changed, "w")
    audit = installation.audits.submit(order).audit
    row = worker.begin(audit, n)
    assert row is not None
    result = worker.examine(audit, n, row)
    if result is not None:
        worker.conclude(audit, n, result)
    with installation.database.read() as connection:
        return connection.execute(select(audits).where(audits.c.id == audit)).one()


@pytest.fixture
def misbehave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has every process of an attempt begin with a piece of code."""

    def prepare(code: str) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        body = "\n".join(f"    {line}" for line in code.splitlines())
        (folder / "sitecustomize.py").write_text(
            f"import os, sys, time\nif 'auditor.service.child' in sys.orig_argv:\n{body}\n"
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))

    return prepare


def test_a_sound_checkpoint_passes_and_its_report_is_kept(installation: Installation, checkpoint: Path) -> None:
    row = attempt(installation, Order(source=str(checkpoint)))
    assert (row.state, row.verdict, row.errors, row.tool) == ("finished", "passed", 0, __version__)
    report = json.loads(installation.reports.get(row.report) or b"")
    assert (report["verdict"], report["source"]["fingerprint"]) == ("passed", row.fingerprint)
    assert not (installation.settings.work / row.id).exists()


def test_an_attempt_is_scheduled_with_the_service_and_after_it(
    installation: Installation, checkpoint: Path, misbehave: Callable[[str], None]
) -> None:
    """A session of its own would have a share of its own, whatever its priority."""
    told = "(os.getsid(0), os.getpgid(0) == os.getpid(), os.nice(0), open('/proc/self/sched').read())"
    misbehave(f"end, os._exit = os._exit, lambda code: (print({told}, file=sys.stderr), end(code))")
    row = attempt(installation, Order(source=str(checkpoint)))
    with installation.database.read() as connection:
        log = connection.execute(select(attempts.c.log).where(attempts.c.audit == row.id)).scalar_one()
    assert log.startswith(str((os.getsid(0), True, 10))[:-1])
    turn = re.search(r"se\.slice\s*:\s*(\d+)", log)
    if turn is not None:  # Linux 6.12 or later
        assert int(turn[1]) == 100_000_000


def test_damage_is_a_verdict_and_no_cause(installation: Installation, tmp_path: Path) -> None:
    forge(tmp_path / "broken", like="tiny", break_name="missing-shard")
    row = attempt(installation, Order(source=str(tmp_path / "broken")))
    assert (row.state, row.verdict, row.cause) == ("finished", "failed", None)
    assert row.errors >= 1


def test_a_policy_and_a_baseline_are_applied(installation: Installation, tmp_path: Path) -> None:
    forge(tmp_path / "broken", like="tiny", break_name="missing-shard")
    first = attempt(installation, Order(source=str(tmp_path / "broken")))
    known = attempt(installation, Order(source=str(tmp_path / "broken"), baseline=first.report))
    assert known.verdict == "passed"
    strict = attempt(installation, Order(source=str(tmp_path / "broken"), policy_text='[require]\ndepth = "full"\n'))
    assert strict.verdict == "failed"
    assert json.loads(installation.reports.get(strict.report) or b"")["policy"]["sha256"] == strict.policy_sha256


@pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")
def test_an_attempt_at_depth_full_reads_where_the_settings_say(installation: Installation, checkpoint: Path) -> None:
    row = attempt(installation, Order(source=str(checkpoint), depth="full"), engine="ray://127.0.0.1:1")
    assert (row.state, row.cause) == ("queued", "unreachable")
    assert "the Ray cluster at 127.0.0.1:1 cannot be reached" in row.reason
    row = attempt(installation, Order(source=str(checkpoint)), engine="ray://127.0.0.1:1")
    assert (row.state, row.verdict) == ("finished", "passed")


def test_content_is_read_at_depth_full(installation: Installation, checkpoint: Path) -> None:
    row = attempt(installation, Order(source=str(checkpoint), depth="full"))
    assert (row.state, row.verdict) == ("finished", "passed")
    assert json.loads(installation.reports.get(row.report) or b"")["run"]["depth"] == "full"


@pytest.mark.parametrize(
    ("order", "cause"),
    [
        (Order(source="/nowhere"), "not_allowed"),
        (Order(source="{tmp}/nothing"), "nothing"),
        (Order(source="{tmp}", family="gpt2"), "usage"),
        (Order(source="{tmp}", policy_text="severity = 3"), "usage"),
        (Order(source="https://example.com/model"), "not_allowed"),
        (Order(source="http://127.0.0.1:9/model"), "not_allowed"),
    ],
)
def test_what_cannot_be_audited_fails_with_a_cause_and_a_sentence(
    installation: Installation, tmp_path: Path, order: Order, cause: str
) -> None:
    from dataclasses import replace

    row = attempt(installation, replace(order, source=order.source.replace("{tmp}", str(tmp_path))))
    assert (row.state, row.cause) == ("failed", cause), row.reason
    assert row.reason
    assert "\n" not in row.reason


def test_a_folder_that_a_link_leads_out_of_is_not_audited(
    installation: Installation, checkpoint: Path, tmp_path: Path
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "model").symlink_to(checkpoint)
    row = attempt(installation, Order(source=str(inside / "model")), sources={"roots": [inside]})
    assert (row.state, row.cause) == ("failed", "not_allowed")


def test_a_host_that_does_not_answer_is_tried_again_later(installation: Installation) -> None:
    allowed = {"hosts": ["127.0.0.1"], "private": True}
    row = attempt(installation, Order(source="http://127.0.0.1:9/model"), sources=allowed)
    assert (row.state, row.cause, row.attempt) == ("queued", "unreachable", 2)


def test_a_source_over_the_network_is_audited_within_its_allowed_hosts(
    installation: Installation, checkpoint: Path
) -> None:
    with folder_server(checkpoint) as server:
        allowed = {"hosts": ["127.0.0.1"], "private": True}
        row = attempt(installation, Order(source=_address(server)), sources=allowed)
    assert (row.state, row.verdict) == ("finished", "passed"), row.reason


def test_a_private_address_is_refused_where_it_is_not_allowed(installation: Installation, checkpoint: Path) -> None:
    with folder_server(checkpoint) as server:
        row = attempt(installation, Order(source=_address(server)), sources={"hosts": ["127.0.0.1"]})
        assert server.requests == []
    assert (row.state, row.cause) == ("failed", "not_allowed")


@pytest.fixture
def hub(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository."""
    made = Hub("org/model", checkpoint)
    monkeypatch.setenv("HF_ENDPOINT", made.url)
    yield made
    made.close()


def test_an_audit_of_a_commit_that_was_audited_is_linked_and_reads_nothing(
    installation: Installation, hub: Hub
) -> None:
    allowed = {"hosts": ["127.0.0.1", "127.0.0.2"], "private": True}
    first = attempt(installation, Order(source="hf://org/model"), sources=allowed)
    assert (first.state, first.verdict, len(first.resolved)) == ("finished", "passed", 40), first.reason
    second = attempt(installation, Order(source="hf://org/model"), sources=allowed)
    assert (second.state, second.same_as, second.report) == ("finished", first.id, first.report)
    forced = attempt(installation, Order(source="hf://org/model", force=True), sources=allowed)
    assert (forced.state, forced.same_as) == ("finished", None)


# --- processes that misbehave ---


def test_a_process_that_kills_itself_is_tried_again_and_then_given_up(
    installation: Installation, checkpoint: Path, misbehave: Callable[[str], None]
) -> None:
    misbehave("os.kill(os.getpid(), 9)")
    for n, state in ((1, "queued"), (2, "queued"), (3, "failed")):
        row = attempt(installation, Order(source=str(checkpoint)), n)
        assert (row.state, row.cause) == (state, "killed")
        assert "signal 9" in row.reason


def test_a_process_that_ends_with_1_and_no_report_has_given_no_verdict(
    installation: Installation, checkpoint: Path, misbehave: Callable[[str], None]
) -> None:
    misbehave("os._exit(1)")
    row = attempt(installation, Order(source=str(checkpoint)))
    assert (row.state, row.cause, row.verdict) == ("queued", "no_report", None)


def test_a_process_that_ends_well_and_leaves_half_a_report_has_given_no_verdict(
    installation: Installation, checkpoint: Path, misbehave: Callable[[str], None]
) -> None:
    misbehave("""open("report.json", "w").write('{"schema_version": "1", "verdict": "passed"')\nos._exit(0)""")
    row = attempt(installation, Order(source=str(checkpoint)))
    assert (row.state, row.cause, row.verdict) == ("queued", "no_report", None)


def test_a_process_that_leaves_more_than_a_report_may_be_has_given_no_verdict(
    installation: Installation, checkpoint: Path, misbehave: Callable[[str], None]
) -> None:
    misbehave("""open("report.json", "wb").truncate(1 << 40)\nos._exit(0)""")
    row = attempt(installation, Order(source=str(checkpoint)))
    assert (row.state, row.cause, row.verdict) == ("queued", "no_report", None)


def test_a_process_that_hangs_is_ended_when_its_time_is_up(
    installation: Installation, checkpoint: Path, misbehave: Callable[[str], None]
) -> None:
    misbehave("time.sleep(3600)")
    headers = {"each": 1, "hours": 1 / 3600, "memory": 1 << 30}
    begun = time.monotonic()
    row = attempt(installation, Order(source=str(checkpoint)), headers=headers)
    assert (row.state, row.cause) == ("failed", "timed_out")
    assert time.monotonic() - begun < 10


def test_a_process_that_writes_endlessly_is_bounded_in_what_is_kept(
    installation: Installation, checkpoint: Path, misbehave: Callable[[str], None]
) -> None:
    misbehave("for _ in range(200):\n    os.write(2, b'A' * 99_999 + b'\\x1b')\nos.write(2, b'the end')\nos._exit(7)")
    row = attempt(installation, Order(source=str(checkpoint)))
    with installation.database.read() as connection:
        log = connection.execute(select(attempts.c.log)).scalar_one()
    assert len(log) < 80_000
    assert log.startswith("AAA")
    assert log.endswith("the end")
    assert "\x1b" not in log
    assert row.cause == "no_report"


def test_a_process_that_eats_memory_is_told_apart_and_tried_once_more(
    installation: Installation, checkpoint: Path, misbehave: Callable[[str], None]
) -> None:
    misbehave(
        "import auditor.run\n"
        "def eat(*_, **__):\n    eaten = []\n    while True:\n        eaten.append(bytearray(1 << 24))\n"
        "auditor.run.conduct = eat"
    )
    headers = {"each": 1, "hours": 1, "memory": 512 << 20}
    for n, state in ((1, "queued"), (2, "failed")):
        row = attempt(installation, Order(source=str(checkpoint)), n, headers=headers)
        assert (row.state, row.cause) == (state, "out_of_memory")


def test_what_a_process_leaves_running_ends_with_it(
    installation: Installation, checkpoint: Path, misbehave: Callable[[str], None], tmp_path: Path
) -> None:
    misbehave(
        "if os.fork() == 0:\n"
        f"    open({str(tmp_path / 'left')!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(3600)\n"
        "time.sleep(0.5)\nos._exit(0)"
    )
    attempt(installation, Order(source=str(checkpoint)))
    left = int((tmp_path / "left").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{left}/cmdline").exists() and Path(f"/proc/{left}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_libraries_print_is_log_and_no_protocol(
    installation: Installation, checkpoint: Path, misbehave: Callable[[str], None]
) -> None:
    misbehave('import atexit\nimport auditor.run\nprint(\'{"error": {"cause": "usage", "reason": "no"}}\')')
    row = attempt(installation, Order(source=str(checkpoint)))
    assert row.state in ("finished", "failed")


def test_no_process_outlives_its_worker(checkpoint: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import json,sys,time,os\n"
        "from auditor.service.audits.process import Process\n"
        "from pathlib import Path\n"
        "p = Process(json.loads(sys.argv[1]), Path(sys.argv[2]), resolved=lambda _: True)\n"
        "print(p.id, flush=True)\ntime.sleep(60)"
    )
    order = {"limits": {"memory": 1 << 30, "files": 256, "nice": 0}, "source": "http://127.0.0.1:1/", "revision": None,
             "hosts": None, "private": True, "roots": []}  # fmt: skip
    worker = subprocess.Popen([sys.executable, "-c", code, json.dumps(order), str(tmp_path)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    child = int(worker.stdout.readline())
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + 10
    while child in attempts_running():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _address(server: Server) -> str:
    return f"{server.url}/"
