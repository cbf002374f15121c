"""How kernels are compiled and kept: once for a processor, anew where damaged, and never where others may write."""

import ast
import os
import pickle
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numba
import pytest

from auditor.content.kernels import compiled
from auditor.errors import UsageError
from auditor.forge import forge

ONCE = "compiling kernels once for this processor"
EACH_TIME = "compiling kernels, with no place to keep them"
HERE = sys.modules[__name__]


def said_on_a_terminal(folder: Path, **environment: str) -> str:
    """What an audit writes to a terminal on standard error."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "auditor", "audit", str(folder), "--depth", "full"]
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    with subprocess.Popen(command, env=surroundings, stdout=subprocess.DEVNULL, stderr=theirs) as audit:
        os.close(theirs)
        said = b""
        with suppress(OSError):  # the other end is closed
            while data := os.read(ours, 1 << 16):
                said += data
    os.close(ours)
    assert audit.returncode == 0, said
    return said.decode()


def test_the_first_audit_compiles_and_a_terminal_says_so_and_the_next_one_does_not(tmp_path: Path) -> None:
    folder, place = forge(tmp_path / "tiny").directory, {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    assert f"\x1b[Kreading tensor data: {ONCE}\r" in said_on_a_terminal(folder, **place)
    assert "compiling" not in said_on_a_terminal(folder, **place)


# --- of a kernel that is compiled in no time ---


def three_times(number: int) -> int:
    return 3 * number


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder where numba keeps what it compiles; no kernel is known yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir(mode=0o700)
    return tmp_path / "cache"


def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a process is told of one kernel, which it then calls."""
    monkeypatch.setattr(compiled, "_kernels", {})
    function = compiled.kernel((numba.types.int64,))(three_times)
    said: list[str] = []
    compiled.prepare([HERE], said.append)
    compiled.prepare([HERE], said.append)  # all is done already
    assert function(14) == 42
    return said


def kept(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file())


def test_what_was_compiled_is_taken_from_the_cache(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    assert prepared(monkeypatch) == [ONCE]
    assert [path.suffix for path in kept(place)] == [".nbc", ".nbi"]
    assert prepared(monkeypatch) == []


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("left", [0, 1, 40, 300])
def test_a_damaged_file_is_made_again(monkeypatch: pytest.MonkeyPatch, place: Path, suffix: str, left: int) -> None:
    prepared(monkeypatch)
    (path,) = place.rglob(f"*{suffix}")
    whole = path.read_bytes()
    for damaged in (whole[:left], b"x" * left, whole[:left] + b"x" * 1000):
        path.write_bytes(damaged)
        assert prepared(monkeypatch) == [ONCE]
        assert prepared(monkeypatch) == []


class Bomb:
    """A pickle that is code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_where_others_may_write_nothing_is_kept_nor_taken(
    monkeypatch: pytest.MonkeyPatch, place: Path, tmp_path: Path, mode: int
) -> None:
    monkeypatch.chdir(tmp_path)
    prepared(monkeypatch)
    for path in kept(place):
        path.write_bytes(pickle.dumps(Bomb()))
    place.chmod(mode)
    assert prepared(monkeypatch) == [EACH_TIME]
    assert not (tmp_path / "exploded").exists()
    place.chmod(0o700)
    prepared(monkeypatch)
    assert (tmp_path / "exploded").exists()  # as it would have there


def test_without_a_place_kernels_are_compiled_each_time(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    place.rmdir()
    place.write_text("in the way")
    assert prepared(monkeypatch) == [EACH_TIME]
    assert prepared(monkeypatch) == [EACH_TIME]


def test_what_cannot_be_written_only_costs_time(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(compiled, "_kernels", {})
    function = compiled.kernel((numba.types.int64,))(three_times)
    (folder,) = place.iterdir()
    folder.rmdir()
    folder.write_text("in the way")
    compiled.prepare([HERE])
    assert function(14) == 42


def test_what_numba_cannot_compile_is_one_line(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(compiled, "_kernels", {})
    compiled.kernel((numba.types.int64,))(lambda number: number.no_such_thing)
    with pytest.raises(UsageError, match=rf"^numba {numba.__version__} makes no kernels that can be used: [^\n]+$"):
        compiled.prepare([HERE])


def test_a_kernel_has_all_that_it_calls_in_its_file_as_the_cache_follows_no_other() -> None:
    """What is compiled from another file's function would stay as it was when that file changes."""
    for path in Path(compiled.__file__).parent.glob("*.py"):
        imported = {
            node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("auditor")
        }
        assert path.stem in ("compiled", "needed", "__init__") or imported == {"auditor.content.kernels.compiled"}, (
            path.name
        )


def test_an_audit_with_a_numba_that_does_not_work_here_ends_in_one_line(tmp_path: Path) -> None:
    folder = forge(tmp_path / "tiny").directory
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "numba.py").write_text("raise ImportError('Numba needs NumPy 1.0 or less.\\nGot 2.0.')\n")
    done = subprocess.run(
        [sys.executable, "-m", "auditor", "audit", str(folder), "--depth", "full", "--jobs", "2"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "broken"), *sys.path])},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("numba makes no kernels that can be used: Numba needs NumPy 1.0 or less.\n")
    assert done.stderr.count("\n") == 1
