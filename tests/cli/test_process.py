"""Whatever the machine refuses, a command ends with an exit code of its contract and one line, never a traceback.

Exit 1 means that a checkpoint failed: a sound one must never end so because memory, threads, descriptors or standard
output ran out.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest

from auditor import cli
from auditor.forge import forge
from auditor.startup import leave_to_the_end

FULL = "/dev/full"
PATH = os.pathsep.join(sys.path)

# Everything before `entry` is the interpreter's and the test's; from there on it is the auditor that answers.
LIMITED = """
import resource, sys
import auditor.cli
kind, extra = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]
if kind in ("DATA", "AS"):
    field = {"DATA": "VmData:", "AS": "VmSize:"}[kind]
    extra += next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(field))
limit = getattr(resource, f"RLIMIT_{kind}")
resource.setrlimit(limit, (extra, extra))
if kind == "NPROC":
    import os
    os.setgroups([]), os.setgid(65534), os.setuid(65534)  # no such limit holds root
auditor.cli.entry()
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sound") / "checkpoint"
    forge(directory, like="tiny")
    return directory


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    directory = tmp_path_factory.mktemp("broken") / "checkpoint"
    forge(directory, like="tiny", break_name="missing-block-scale")
    return directory


def _limited(kind: str, extra: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED, kind, str(extra), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": PATH, "RUST_BACKTRACE": "1"},  # as developers of Rust have it
    )  # fmt: skip


def _shell(line: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`auditor ARGUMENTS` with what the shell is to do with its streams."""
    command = f'"$0" -m auditor "$@" {line}'
    return subprocess.run(
        ["bash", "-c", command, sys.executable, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "PYTHONPATH": PATH, **environment},
    )  # fmt: skip


def _says_one_line(done: subprocess.CompletedProcess[str]) -> None:
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("auditor: ")


# So that it runs out at every stage: imports, reading, each output, and what is printed.
MEBIBYTES = (0, 0.06, 0.25, 1, 2, 4, 6, 8, 10, 12, 14, 15, 16, 18, 20, 24, 28, 40)


@pytest.mark.parametrize(("kind", "mebibytes"), [("DATA", each) for each in MEBIBYTES] + [("AS", 16), ("AS", 28)])
def test_without_memory_a_command_ends_with_3_or_its_true_verdict(sound, tmp_path, mebibytes, kind):
    extra = int(mebibytes * 2**20)
    done = _limited(kind, extra, "audit", sound, "--json", tmp_path / "a.json", "--html", tmp_path / "a.html")
    assert done.returncode in (0, 3), done
    assert "Traceback" not in done.stderr
    assert "SystemError" not in done.stderr
    lines = done.stderr.splitlines()
    ours = [line for line in lines if line.startswith("auditor: ")]
    assert bool(ours) == (done.returncode != 0), done
    # A library's words where it ends the process, or the interpreter's: ours come after them.
    if "ended the process" not in done.stderr:
        assert lines == ours, done.stderr
        assert len(lines) <= 1 or "cannot write" in done.stderr


PANIC = """
import os, resource, sys, traceback
from auditor.cli import outputs

class PanicException(BaseException):
    pass

def make():
    try:
        raise MemoryError
    except MemoryError:
        traceback.print_exc()
    os.write(2, b"thread '<unnamed>' panicked: PyObject pointer is null\\n")
    raise PanicException

resource.setrlimit(resource.RLIMIT_DATA, (1 << 40, 1 << 40))
sys.exit(outputs.write_all([("a.json", make)], lambda: print("shown"), 0))
"""


def test_a_library_that_panics_without_memory_costs_one_output_and_one_line(tmp_path):
    """As pydantic's does where it gets none for what it hands over."""
    done = subprocess.run(
        [sys.executable, "-c", PANIC], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": PATH},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "shown\n")
    assert done.stderr == "auditor: cannot write a.json: out of memory\n"
    assert not list(tmp_path.iterdir())


def test_a_library_that_ends_the_process_decides_nothing():
    """Nor does it end in silence, though what libraries print may go nowhere at that moment."""
    imports = "import ctypes, os, resource, signal; from auditor.startup import let_no_library_decide as let"
    for ending in (
        "let(); ctypes.CDLL(None).exit(1)",
        "let(); os.abort()",
        "let(); os.close(2); os.abort()",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); let(); os.abort()",
    ):
        program = f"{imports}; {ending}"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": PATH},
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == "auditor: a library ended the process, most often for want of memory\n"


def test_what_ran_out_is_named(sound):
    done = _limited("DATA", 1 << 16, "audit", sound)
    assert done.returncode == 3
    assert "memory" in done.stderr
    done = _limited("NOFILE", 3, "audit", sound)
    assert done.returncode == 3
    assert "open files" in done.stderr


@pytest.mark.parametrize("extra", range(3, 7))
@pytest.mark.parametrize("command", ["audit", "count", "verify", "lint", "rules"])
def test_without_descriptors_a_command_ends_with_3_or_its_true_verdict(sound, tmp_path, command, extra):
    cli.main(["audit", str(sound), "--json", str(tmp_path / "a.json"), "--quiet"])
    arguments = {
        "verify": [tmp_path / "a.json", sound], "lint": [sound / "config.json"], "rules": [],
    }.get(command, [sound])  # fmt: skip
    done = _limited("NOFILE", extra, command, *arguments)
    assert done.returncode in (0, 3), done
    assert "Traceback" not in done.stderr
    if done.returncode == 0 and command == "audit":
        assert "PASSED" in done.stdout
        assert "0 rules ran" not in done.stdout


@pytest.mark.parametrize("extra", [1, 2, 3, 4])
@pytest.mark.skipif(os.getuid() != 0, reason="gives up root to fall under the limit; another user's is in use already")
def test_without_threads_an_audit_ends_with_3_or_its_true_verdict(tmp_path, extra):
    folder = Path("/tmp") / f"auditor-threads-{os.getpid()}-{extra}"
    try:
        forge(folder, like="tiny")
        folder.chmod(0o755)
        done = _limited("NPROC", extra, "audit", folder, "--depth", "full", "--device", "cpu")
        assert done.returncode in (0, 3), done
        assert "Traceback" not in done.stderr
    finally:
        for path in folder.glob("*"):
            path.unlink()
        folder.rmdir()


@pytest.mark.parametrize("mebibytes", [8, 24, 48, 64, 96, 128])
def test_without_memory_a_full_audit_never_fails_a_sound_checkpoint(sound, mebibytes):
    done = _limited("DATA", mebibytes << 20, "audit", sound, "--depth", "full", "--device", "cpu")
    assert done.returncode not in (1, 2), done
    assert "Traceback" not in done.stderr


# --- standard output ---


@pytest.mark.parametrize(
    "arguments", [["audit", "SOUND"], ["audit", "SOUND", "--quiet"], ["audit", "SOUND", "--json", "-"], ["rules"],
                  ["count", "SOUND"], ["--version"], ["--help"], ["audit", "--help"], ["forge", "--list-breaks"],
                  ["lint", "SOUND/config.json"], ["schema", "report"], ["rule", "QNT101"], ["diff", "SOUND", "SOUND"]],
)  # fmt: skip
@pytest.mark.parametrize("line", [">&-", ">/dev/full", "<&- >&-"])
def test_standard_output_that_takes_nothing_is_3_and_says_so(sound, arguments, line):
    done = _shell(line, *(each.replace("SOUND", str(sound)) for each in arguments))
    assert done.returncode == 3
    _says_one_line(done)
    assert "standard output" in done.stderr


@pytest.mark.parametrize("line", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_where_only_files_were_asked_for_a_closed_standard_output_costs_nothing(sound, broken, tmp_path, line):
    assert _shell(line, "audit", sound, "--json", tmp_path / "a.json").returncode == 0
    assert json.loads((tmp_path / "a.json").read_text())["verdict"] == "passed"
    assert _shell(line, "audit", broken, "--json", tmp_path / "b.json").returncode == 1
    assert json.loads((tmp_path / "b.json").read_text())["verdict"] == "failed"
    assert _shell(line, "report", tmp_path / "b.json", "--html", tmp_path / "b.html").returncode == 1
    assert _shell(line, "count", sound, "--json", tmp_path / "c.json").returncode == 0
    assert _shell(line, "diff", sound, sound, "--json", tmp_path / "d.json").returncode == 0
    assert _shell(line, "publish", tmp_path / "a.json", "--site", tmp_path / "site").returncode == 0
    assert _shell(line, "forge", tmp_path / "forged", "--sparse").returncode == 0


@pytest.mark.parametrize("line", ["<&- >&- 2>&-", ">&- 2>&-", ">/dev/full 2>/dev/full"])
def test_with_every_stream_closed_or_full_it_is_3_and_never_1(sound, broken, line):
    assert _shell(line, "audit", sound).returncode == 3
    assert _shell(line, "audit", broken, "--json", "-").returncode == 3
    assert _shell(line, "audit", sound / "absent").returncode == 3
    assert _shell(line, "audit").returncode == 2


def test_full_standard_error_changes_no_verdict(sound):
    assert _shell("2>/dev/full", "audit", sound).returncode == 0
    assert _shell("2>&-", "audit", sound / "absent").returncode == 3


def test_no_file_of_ours_takes_the_number_of_a_closed_stream(sound, tmp_path):
    """Else a complaint, or the summary, would be written into the report."""
    target = tmp_path / "a.json"
    done = _shell("<&- >&- 2>&-", "audit", sound, "--json", target, "--html", FULL)
    assert done.returncode == 3
    assert json.loads(target.read_text())["verdict"] == "passed"


ASCII = {"PYTHONIOENCODING": "ascii"}
PLAIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}


@pytest.mark.parametrize("environment", [ASCII, PLAIN, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "utf-16"}])
@pytest.mark.parametrize("more", [[], ["--quiet"]])
def test_output_that_knows_no_mark_of_ours_has_the_verdict_all_the_same(sound, broken, environment, more):
    for folder, code, word in ((sound, 0, "passed"), (broken, 1, "failed")):
        command = [sys.executable, "-m", "auditor", "audit", str(folder), *more]
        done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, **environment})
        assert done.returncode == code, done.stderr
        assert done.stderr == b""
        encoding = environment.get("PYTHONIOENCODING") or "ascii"
        assert word in done.stdout.decode(encoding).lower()
    if not more and encoding == "ascii":
        assert "\\x" not in done.stdout.decode(), "a mark of ours that has a plain form"


def test_diff_and_count_print_in_ascii(sound, broken):
    done = _shell("", "diff", sound, broken, **ASCII)
    assert (done.returncode, done.stderr) == (1, "")
    assert _shell("", "count", sound, **ASCII).returncode == 0


# --- signals ---

SLOW = """
import sys, time
import auditor.cli, auditor.startup
place = sys.argv.pop(1)
def slow(*_, **__):
    print("here", file=sys.stderr, flush=True)
    time.sleep(3)
if place == "import":
    class Finder:
        def find_spec(self, name, *_):
            if name == "auditor.run":
                slow()
    sys.meta_path.insert(0, Finder())
else:
    import auditor.cli.outputs
    whole = auditor.cli.outputs.save
    auditor.cli.outputs.save = lambda *a: (slow(), whole(*a))
auditor.cli.entry()
"""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("times", [1, 2, 3, 5])
@pytest.mark.parametrize("place", ["import", "output"])
def test_interrupted_anywhere_and_however_often_it_is_3_without_a_traceback(sound, tmp_path, place, stop, times):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, place, "audit", str(sound), "--json", str(tmp_path / "a.json"), "--quiet"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": PATH},
    )  # fmt: skip
    assert process.stderr is not None
    process.stderr.readline()
    for _ in range(times):
        process.send_signal(stop)
        time.sleep(0.02)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 3, errors
    assert b"Traceback" not in errors


def test_what_was_ignored_stays_ignored(sound):
    """Under nohup and behind '&' in a script, an interrupt is for somebody else."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "import", "audit", str(sound), "--quiet"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": PATH},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_what_is_left_to_the_end_is_freed_by_the_collector_alone() -> None:
    class Large:
        pass

    gc.disable()
    try:
        large = Large()
        seen = weakref.ref(large)
        leave_to_the_end(large)
        del large
        assert seen() is not None
        gc.collect()
        assert seen() is None
    finally:
        gc.enable()
