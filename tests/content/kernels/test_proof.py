"""Machine code proves itself before it is used: every entry answers, and what does not is refused in one line."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from auditor.content.kernels import native
from auditor.content.kernels.native import KNOWN_NUMBA, PREFIX, SIGNATURES, entry, target_machine
from auditor.content.kernels.proof import Trial, answers, prove, trials
from auditor.errors import UsageError
from auditor.forge import forge
from auditor.private import PrivateFolder

TRIALS = list(trials())


def code_that(does: str) -> bytes:
    """An object file with every entry, none of which does anything else."""
    types = {True: "i64", False: "ptr"}
    functions = [
        f"define i32 @{PREFIX}{name}({', '.join(['ptr', 'ptr', *(types[kind == 'n'] for kind in signature.split())])}) "
        f"{{ begin: {does} }}"
        for name, signature in SIGNATURES.items()
    ]
    machine = target_machine()
    module = llvm.parse_assembly("\n".join(["declare void @llvm.trap()", *functions]))
    code: bytes = machine.emit_object(module)
    return code


@pytest.mark.parametrize("trial", TRIALS, ids=[f"{trial.name}-{at}" for at, trial in enumerate(TRIALS)])
def test_our_kernels_answer(trial: Trial) -> None:
    assert answers(entry(trial.name), trial)


@pytest.mark.parametrize("trial", TRIALS, ids=[f"{trial.name}-{at}" for at, trial in enumerate(TRIALS)])
def test_who_does_nothing_does_not_answer(trial: Trial) -> None:
    assert not answers(lambda *_: None, trial)


def test_every_entry_is_tried() -> None:
    assert {trial.name for trial in TRIALS} == set(SIGNATURES)


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("ret i32 0", r"^reduce_strip answers wrongly$"),
        ("ret i32 1", r"^the kernel reduce_strip failed$"),
        ("store i8 1, ptr inttoptr (i64 8 to ptr)\n ret i32 0", r"^reduce_strip crashes \(signal 11\)$"),
        ("call void @llvm.trap()\n unreachable", r"^reduce_strip crashes \(signal \d+\)$"),
    ],
    ids=["nothing", "status", "elsewhere", "trap"],
)
def test_code_that_does_not_work_is_refused_and_this_process_goes_on(does: str, reason: str) -> None:
    with pytest.raises(RuntimeError, match=reason):
        prove(code_that(does))


def test_code_that_does_not_end_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"^reduce_strip does not end$"):
        prove(code_that("br label %again\nagain: br label %again"), patience_s=5)


def test_what_is_no_code_is_refused() -> None:
    with pytest.raises(RuntimeError):
        prove(b"no object file")


def test_refused_code_is_not_kept_and_the_line_names_numba_and_what_works(tmp_path: Path) -> None:
    folder = PrivateFolder(str(tmp_path / "kernels"), b"kernels\n", largest=1 << 20, bound=1 << 20)
    with pytest.raises(UsageError) as refused:
        native.made(folder, "name", compiled=lambda: code_that("ret i32 0"))
    assert folder.usable()
    assert list((tmp_path / "kernels").iterdir()) == []
    assert str(refused.value) == (
        f"numba {version('numba')} makes no kernels that can be used: reduce_strip answers wrongly "
        f"(known to work: numba {KNOWN_NUMBA[0]} to {KNOWN_NUMBA[1]})"
    )


def test_an_audit_with_a_numba_that_cannot_compile_ends_in_one_line(tmp_path: Path) -> None:
    folder = forge(tmp_path / "tiny").directory
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "numba.py").write_text("raise ImportError('Numba needs NumPy 1.0 or less.\\nGot 2.0.')\n")
    paths = os.pathsep.join([str(tmp_path / "broken"), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "auditor", "audit", str(folder), "--depth", "full", "--jobs", "2"],
        env={**os.environ, "PYTHONPATH": paths, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    first, rest = done.stderr.split("\n", 1)
    assert (first.partition(" makes no kernels that can be used: ")[2].partition(" (")[0], rest) == (
        "Numba needs NumPy 1.0 or less.",
        "",
    )
    assert list((tmp_path / "auditor" / "kernels").iterdir()) == []


def test_numbas_known_to_work_begin_with_the_one_we_ask_for_and_include_ours() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    first, last = KNOWN_NUMBA
    assert f"numba>={first}" in project["project"]["optional-dependencies"]["content"]
    ours = tuple(map(int, version("numba").split(".")[:2]))
    assert tuple(map(int, first.split("."))) <= ours <= tuple(map(int, last.split(".")))
