"""Full audits on a Ray cluster: the report is the local one's, whatever is killed, and what is wrong is one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from auditor import cli
from auditor.forge import forge
from tests.servers.s3 import s3_server
from tests.servers.serving import Reply, Request, Server, ranged

# Not imported here: Ray changes logging and signals of a whole process.
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")

ROOT = Path(__file__).parents[2]
TOKEN = "a token of forty characters, at the least"
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "schemas", ROOT / "reports"))),
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
}
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
DELAY_S = 0.4


class Nodes:
    """A cluster on this machine, in a process of its own: three nodes with a processor each."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.environment = environment
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.nodes"], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / "nodes.log").open("w"),
        )  # fmt: skip
        self.address = self.ask("address")

    def ask(self, word: str) -> str:
        """Have something done to the nodes: add, kill, address."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        found = self._process.stdout.readline().strip()
        assert found, "the nodes are gone"
        return found

    def close(self) -> None:
        """Stop them."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def begin(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """An audit as a process."""
        command = [sys.executable, "-m", "auditor", *words]
        environment = {**self.environment, **more}
        return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def audit(self, source: object, *options: str, **more: str) -> subprocess.Popen[str]:
        """A full audit on these nodes, its report on standard output."""
        words = ["audit", str(source), "--depth", "full", "--seed", "1", "--json", "-"]
        return self.begin(*words, "--engine", f"ray://{self.address}", *options, **more)


def ended(process: subprocess.Popen[str]) -> tuple[int, dict]:
    """The exit code and the report, which is all that is on standard output."""
    out, err = process.communicate(timeout=120)
    assert process.returncode in (0, 1, 3), err
    return process.returncode, json.loads(out)


def stable(report: dict) -> dict:
    return {name: value for name, value in report.items() if name not in ("run", "source")}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forge(tmp_path_factory.mktemp("ray") / "tiny").directory


@pytest.fixture(scope="module")
def local(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("local") / "report.json"
    assert cli.main(["audit", str(tiny), "--depth", "full", "--seed", "1", "--quiet", "--json", str(path)]) == 0
    return stable(json.loads(path.read_text("utf-8")))


@pytest.fixture(scope="module")
def slow(tiny: Path) -> Iterator[Server]:
    """A bucket whose every answer takes a moment."""

    def answer(request: Request) -> Reply:
        name = request.target.path.rpartition("/")[2]
        if request.query.get("list-type") or not name.endswith(".safetensors"):
            return inner(request)
        time.sleep(DELAY_S)
        return ranged(tiny / name, request)

    with s3_server(tiny.parent, "models") as bucket:
        inner = bucket.answer
        with Server(answer) as server:
            yield server


@pytest.fixture(scope="module")
def nodes(slow: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("nodes")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    found = Nodes(folder, {**kept, **SETTINGS, "AWS_ENDPOINT_URL": slow.url, "XDG_CACHE_HOME": str(folder)})
    yield found
    found.close()


def wait_for(asked: Callable[[], bool], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not asked():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def reading(slow: Server, before: int) -> None:
    """Wait until nodes read tensor data, which is beyond the requests for headers."""
    wait_for(lambda: sum(request.target.path.endswith(".safetensors") for request in slow.requests) > before + 6)


def busy_workers(address: str) -> list[int]:
    """The workers of the cluster that do something."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes()
        except OSError:
            continue
        if words.startswith((b"ray::_there", b"ray::auditor")):
            found.append(int(place.parent.name))
    return found


# --- the report ---


@pytest.mark.parametrize("options", [(), ("--no-digests",), ("--jobs", "1")])
def test_report_is_that_of_this_machine(nodes: Nodes, tiny: Path, options: tuple[str, ...], tmp_path: Path) -> None:
    code, report = ended(nodes.audit(tiny, *options))
    assert code == 0
    assert report["run"]["engine"] == "ray"
    path = tmp_path / "report.json"
    command = ["audit", str(tiny), "--depth", "full", "--seed", "1", "--quiet", *options, "--json", str(path)]
    assert cli.main(command) == 0
    assert stable(report) == stable(json.loads(path.read_text("utf-8")))


@pytest.mark.parametrize("name", ["nan-codes", "zero-filled-tail", "truncated-shard"])
def test_damage_is_found_as_on_this_machine(nodes: Nodes, tmp_path: Path, name: str) -> None:
    broken = forge(tmp_path / "broken", break_name=name).directory
    code, report = ended(nodes.audit(broken))
    assert code == 1
    path = tmp_path / "report.json"
    cli.main(["audit", str(broken), "--depth", "full", "--seed", "1", "--quiet", "--json", str(path)])
    assert stable(report) == stable(json.loads(path.read_text("utf-8")))


def test_parts_are_read_on_it_and_progress_names_its_nodes(
    nodes: Nodes, tiny: Path, local: dict, tmp_path: Path
) -> None:
    place = ("--resume", str(tmp_path / "place"))
    for part in ("1/2", "2/2"):
        options = ("--part", part, "--engine", f"ray://{nodes.address}", "--progress", "json")
        process = nodes.begin("read", str(tiny), *place, *options)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.startswith(f"part {part.replace('/', ' of ')} is read")
        last = json.loads(err.splitlines()[-1])
        assert last["done"] == last["total"]
        assert (last["nodes"], last["workers"], last["units_left"], last["retries"]) == (3, 3, 0, 0)
    code, report = ended(nodes.begin("audit", str(tiny), "--depth", "full", "--seed", "1", "--json", "-", *place))
    assert (code, report["run"]["resumed_shards"]) == (0, report["inventory"]["shards"])
    assert stable(report) == local


# --- what dies ---


def test_a_worker_that_is_killed_loses_its_units_alone(nodes: Nodes, slow: Server, local: dict) -> None:
    before = len(slow.requests)
    process = nodes.audit("s3://models/tiny", "--no-cache")
    reading(slow, before)
    wait_for(lambda: bool(busy_workers(nodes.address)))
    for each in busy_workers(nodes.address):
        os.kill(each, signal.SIGKILL)
    code, report = ended(process)
    assert (code, report["incomplete"]) == (0, [])
    assert stable(report)["probes"] == local["probes"]


def test_a_node_that_dies_loses_its_units_alone_and_one_that_comes_is_used(
    nodes: Nodes, slow: Server, local: dict
) -> None:
    before = len(slow.requests)
    process = nodes.audit("s3://models/tiny", "--no-cache")
    reading(slow, before)
    nodes.ask("kill")
    nodes.ask("add")
    code, report = ended(process)  # and standard output is the report's alone
    assert (code, report["incomplete"]) == (0, [])
    assert stable(report)["probes"] == local["probes"]


def test_a_driver_that_is_killed_goes_on_where_it_was(nodes: Nodes, slow: Server, local: dict, tmp_path: Path) -> None:
    place = tmp_path / "place"
    before = len(slow.requests)
    process = nodes.audit("s3://models/tiny", "--no-cache", "--resume", str(place), "--jobs", "1")
    reading(slow, before)
    wait_for(lambda: len(list(place.glob("*.json"))) > 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, report = ended(nodes.audit("s3://models/tiny", "--no-cache", "--resume", str(place)))
    assert code == 0
    assert report["run"]["resumed_shards"] > 0
    assert stable(report)["probes"] == local["probes"]


def test_an_interruption_leaves_a_report_soon(nodes: Nodes, slow: Server) -> None:
    before = len(slow.requests)
    process = nodes.audit("s3://models/tiny", "--no-cache", "--jobs", "1")
    reading(slow, before)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    code, report = ended(process)
    assert time.monotonic() - begun < 10
    assert code == 3
    assert any("cancelled after" in each for each in report["incomplete"])


# --- what nodes lack ---


def test_a_node_that_does_not_see_the_source_leaves_its_units_to_others(nodes: Nodes, local: dict) -> None:
    nodes.ask("blind")
    try:
        code, report = ended(nodes.audit("s3://models/tiny", "--no-cache"))
    finally:
        nodes.ask("unblind")
    assert (code, report["incomplete"]) == (0, [])
    assert stable(report)["probes"] == local["probes"]


def test_a_source_that_no_node_sees_makes_the_audit_incomplete(nodes: Nodes, tiny: Path) -> None:
    with s3_server(tiny.parent, "others") as server:
        code, report = ended(nodes.audit("s3://others/tiny", "--no-cache", AWS_ENDPOINT_URL=server.url))
    assert code == 3
    shards = report["inventory"]["shards"]
    assert len(report["incomplete"]) == shards
    for each in report["incomplete"]:
        assert each.startswith("model-")
        assert each.count("127.0.0.") == 3
    assert set(report["incomplete_codes"]) == {"not_found"}


# --- a cluster that is not as it should be ---


@pytest.mark.parametrize("token", ["another token of forty characters, or so", ""])
def test_a_wrong_token_is_one_line(nodes: Nodes, tiny: Path, token: str) -> None:
    more = {"RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_TOKEN": "", "RAY_AUTH_MODE": "disabled"}
    begun = time.monotonic()
    process = nodes.audit(tiny, **more)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 30
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert "refuses the token" in err


def test_an_address_where_nobody_listens_is_one_line(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", str(tiny), "--depth", "full", "--engine", "ray://127.0.0.1:1"]) == 3
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "the Ray cluster at 127.0.0.1:1 cannot be reached" in said.err


@pytest.mark.parametrize("engine", ["spark", "ray://", "ray://host", "ray://host:x", "ray:host:1", "ray://a b:1"])
def test_an_engine_that_is_none_is_one_line(tiny: Path, engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", str(tiny), "--depth", "full", "--engine", engine]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["audit", str(tiny), "--engine", engine]) == 2


def test_without_the_extra_it_says_what_to_install(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["audit", str(tiny), "--depth", "full", "--engine", "ray"]) == 2
    assert "pip install 'checkpoint-auditor[ray]'" in capsys.readouterr().err


def test_a_node_with_another_auditor_is_named(nodes: Nodes) -> None:
    """As nodes see it; this machine's paths are theirs here, so it is this side that is another version."""
    program = (
        "import sys; from auditor.engine import ray; ray.__version__ = '9.9.9'\n"
        "try: ray.Cluster(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", program, nodes.address]
    done = subprocess.run(command, env=nodes.environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    said = done.stdout.strip()
    assert said.startswith("UsageError --engine ray: needs auditor 9.9.9 on every node; 127.0.0."), done.stderr
    assert "\n" not in said


# --- the engine by itself ---


PROGRAM = """
import json, sys
from auditor.engine.ray import Cluster, ElsewhereError, Ray
from tests.engine.deeds import answer
cluster, said = Cluster(sys.argv[1]), {}
def opened(task, data):
    if task.startswith("nowhere"):
        raise ElsewhereError("lacks it")
    return data.decode()
engine = Ray(
    cluster, answer, packed=str.encode, opened=opened, size=len, watch=lambda done: None,
    finished=lambda task, result: said.__setitem__(task, result),
    failed=lambda task, error: said.__setitem__(task, f"! {error}"),
)
engine.run(sys.argv[2:])
cluster.close()
print(json.dumps(said))
"""


def engine_said(nodes: Nodes, *tasks: str) -> dict[str, str]:
    command = [sys.executable, "-c", PROGRAM, nodes.address, *tasks]
    done = subprocess.run(command, env=nodes.environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_a_task_that_always_kills_its_worker_ends_alone(nodes: Nodes, tmp_path: Path) -> None:
    once = f"once {tmp_path / 'mark'}"
    said = engine_said(nodes, *map(str, range(20)), "deadly", once, "raises", "nowhere")
    assert {task: said[task] for task in map(str, range(20))} == {task: task for task in map(str, range(20))}
    assert said["deadly"].startswith("! killed its worker 4 times")
    assert said[once] == once
    assert said["raises"].startswith("! ")
    assert said["nowhere"].count("lacks it") == 3
