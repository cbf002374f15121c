"""Content that the command reads in a second process: the same report, the same ends, and nothing left running."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from auditor.forge import forge

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create") or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two cores"
)

# The command, with what a test adds. `IN_CHILD` is whether this is the process that reads content.
PROGRAM = """
import os, sys, time
import auditor.content.read as read
PARENT = os.getpid()
real = read.read_content
def read_content(*given, **named):
    IN_CHILD = os.getpid() != PARENT
    {begin}
    content = real(*given, **named)
    {end}
    return content
read.read_content = read_content
import auditor.cli as cli
code = cli.main(sys.argv[1:], alone={alone})
sys.exit(code)
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("apart") / "tiny"
    forge(folder, like="tiny")
    return folder


def begun(folder: Path, *more: str, begin: str = "pass", end: str = "pass", alone: bool = True) -> subprocess.Popen:
    """An audit at depth full under way."""
    return subprocess.Popen(
        [
            sys.executable, "-c", PROGRAM.format(begin=begin, end=end, alone=alone),
            "audit", str(folder), "--depth", "full", "--quiet", "--seed", "3", *more,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def report_of(path: Path) -> dict:
    document = json.loads(path.read_bytes())
    for field in ("started_at", "duration_s"):
        del document["run"][field]
    return document


TOLD = "print('in the child' if IN_CHILD else 'in the parent', file=sys.stderr, flush=True)"


@pytest.mark.parametrize("name", ["sound", "damaged"])
@pytest.mark.parametrize("depth", ["full", "sample"])
def test_the_report_is_the_one_of_a_single_process(tmp_path, name, depth):
    forge(tmp_path / "tiny", like="tiny", break_name=None if name == "sound" else "zero-scale")
    reports = []
    for alone in (True, False):
        out = tmp_path / f"{alone}.json"
        code, _, err = ended(begun(tmp_path / "tiny", "--depth", depth, "--json", str(out), begin=TOLD, alone=alone))
        assert err == ("in the child\n" if alone else "in the parent\n")
        reports.append((code, report_of(out)))
    assert reports[0] == reports[1]
    assert reports[0][0] == (0 if name == "sound" else 1)


def test_judging_needs_none_of_what_reading_needs(sound):
    program = (
        "import sys; from auditor import cli\n"
        "code = cli.main(sys.argv[1:], alone=True)\n"
        "print([name for name in ('numpy', 'llvmlite', 'xxhash', 'numba') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "audit", str(sound), "--depth", "full", "--quiet"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("when", ["begin", "end"])
def test_where_the_second_process_dies_this_one_reads(sound, tmp_path, when):
    out = tmp_path / "report.json"
    dying = {when: TOLD + "; IN_CHILD and os._exit(9)"}
    code, _, err = ended(begun(sound, "--json", str(out), **dying))
    assert (code, err) == (0, "in the child\nin the parent\n")
    assert report_of(out)["verdict"] == "passed"


def test_a_second_process_that_fails_costs_time_alone(sound):
    code, out, err = ended(begun(sound, begin="assert not IN_CHILD"))
    assert (code, err) == (0, "")
    assert "passed" in out


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there is a GPU")
def test_what_reading_raises_is_one_line_as_ever(sound):
    code, out, err = ended(begun(sound, "--device", "cuda"))
    assert (code, out) == (2, "")
    assert err.startswith("auditor: --device cuda: no CUDA device")
    assert err.count("\n") == 1


WAITING = "print(os.getpid(), file=sys.stderr, flush=True); time.sleep(60)"
# The first shard is done, the second waits to be interrupted.
SLOW = """import auditor.content.shard as shard, itertools
    count, one = itertools.count(), shard.ShardReader.read
    def slow(self, plan):
        if next(count):
            print('waiting', file=sys.stderr, flush=True)
            while True:
                time.sleep(0.01); self.tick(0)
        return one(self, plan)
    shard.ShardReader.read = slow"""


@pytest.mark.parametrize("to_group", [False, True], ids=["one process", "both, as a terminal does"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_was_read(sound, tmp_path, number, to_group):
    out = tmp_path / "report.json"
    process = begun(sound, "--jobs", "1", "--json", str(out), begin=SLOW)
    assert process.stderr is not None
    assert process.stderr.readline() == "waiting\n"
    time.sleep(0.05)
    if to_group:
        (child,) = children(process.pid)
        os.kill(child, number)
    process.send_signal(number)
    code, printed, err = ended(process)
    assert (code, err) == (3, "")
    assert "cancelled after 1 of 5 shards' content" in printed
    report = report_of(out)
    assert report["verdict"] == "incomplete"
    assert report["coverage"]["payload_bytes_read"] > 0


def test_a_second_interruption_gives_up_what_was_read_and_ends_the_reading(sound, tmp_path):
    out = tmp_path / "report.json"
    process = begun(sound, "--json", str(out), begin=f"import signal; {STUBBORN}")
    assert process.stderr is not None
    child = int(process.stderr.readline())
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    code, printed, _ = ended(process)
    assert code == 3
    assert "cancelled before tensor data was read" in printed
    assert report_of(out)["verdict"] == "incomplete"
    assert gone(child)


STUBBORN = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM}); " + WAITING


def test_an_audit_that_is_killed_reads_no_further(sound):
    process = begun(sound, begin=WAITING)
    assert process.stderr is not None
    child = int(process.stderr.readline())
    assert child != process.pid
    process.kill()
    process.wait(timeout=10)
    assert gone(child)


def test_an_audit_that_never_asks_leaves_nothing_running(tmp_path):
    """Nothing to audit: known once the other process is ready, or not yet."""
    (tmp_path / "empty").mkdir()
    process = begun(tmp_path / "empty")
    code, _, err = ended(process)
    assert code == 3
    assert err.startswith("auditor: ")
    assert err.count("\n") == 1
    assert not children(process.pid)


def children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(entry.parent.name))
    return found


def gone(process: int) -> bool:
    """Whether a process ends within five seconds; one that nobody has waited for has ended."""
    for _ in range(500):
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith("Z"):
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False
