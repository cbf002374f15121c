"""The kernels' machine code: kept for this user, loaded without numba, compiled again where it is not whole."""

import ctypes
import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from auditor.content.device import address
from auditor.content.kernels import native
from auditor.forge import forge

AUDIT = """
import json, sys
from auditor import audit
from auditor.content import Reading
told = []
report = audit(sys.argv[1], depth="full", reading=Reading(depth="full", preparing=told.append))
print(json.dumps([report.verdict, len(report.probes.tensors), "numba" in sys.modules, *told]))
"""
ONCE = "compiling kernels once for this processor"
EACH_TIME = "compiling kernels, with no place to keep them"


def surroundings(**environment: str) -> dict[str, str]:
    """The environment of a process that finds no cache but the one that is named."""
    known = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    return known | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment


def audited(folder: Path, **environment: str) -> list[object]:
    """Verdict, weights that came back, whether numba was imported, and what was told, by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, str(folder)],
        env=surroundings(**environment), capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout)
    return found


def said_on_a_terminal(folder: Path, *options: str, **environment: str) -> str:
    """What the command writes to a terminal on standard error."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "auditor", "audit", str(folder), "--depth", "full", *options]
    with subprocess.Popen(command, env=surroundings(**environment), stdout=subprocess.DEVNULL, stderr=theirs) as audit:
        os.close(theirs)
        said = b""
        with suppress(OSError):  # the other end is closed
            while data := os.read(ours, 1 << 16):
                said += data
    os.close(ours)
    assert audit.returncode == 0, said
    return said.decode()


def test_what_was_compiled_is_loaded_without_numba_and_made_again_where_it_is_damaged(tmp_path: Path) -> None:
    folder, home = forge(tmp_path / "tiny").directory, {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert audited(folder, **home) == ["passed", 136, True, ONCE]
    kept = tmp_path / "cache" / "auditor" / "kernels"
    (code,) = kept.iterdir()
    assert (kept.stat().st_mode & 0o777, code.stat().st_mode & 0o777) == (0o700, 0o600)
    whole = code.read_bytes()
    assert audited(folder, **home) == ["passed", 136, False]
    code.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    assert said_on_a_terminal(folder, "--quiet", **home) == ""
    assert [each.name for each in kept.iterdir()] == [code.name]
    assert audited(folder, **home) == ["passed", 136, False]


def test_without_a_place_to_keep_them_the_kernels_run_and_a_terminal_says_why_it_waits(tmp_path: Path) -> None:
    folder = forge(tmp_path / "tiny").directory
    (tmp_path / "file").touch()
    said = said_on_a_terminal(folder, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert f"\x1b[Kreading tensor data: {EACH_TIME}\r" in said


def test_another_processor_or_compiler_has_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {native._name()}
    with monkeypatch.context() as patch:
        patch.setattr(native.llvmlite, "__version__", "0.0")
        names.add(native._name())
    with monkeypatch.context() as patch:
        patch.setattr(native.llvm, "get_host_cpu_name", lambda: "another")
        names.add(native._name())
    assert len(names) == 3


def test_a_kernel_whose_status_is_not_zero_has_failed() -> None:
    status = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(lambda *given: given[2])
    place = ctypes.cast(status, ctypes.c_void_p).value
    assert place is not None
    native._callable("odd", place, "n")(0)
    with pytest.raises(RuntimeError, match="odd failed"):
        native._callable("odd", place, "n")(1)


def test_what_does_not_stand_together_has_no_address() -> None:
    with pytest.raises(ValueError, match="one behind the other"):
        address(np.zeros((4, 4), np.uint8)[:, ::2])
