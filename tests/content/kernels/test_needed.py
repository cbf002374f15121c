"""Kernels are there before anything is read: each that a room calls is named in one place, and no import is needed."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from auditor import content, conversion
from auditor.content.kernels import needed
from auditor.forge import forge

KERNELS = "auditor.content.kernels"


def imported_by(room: ModuleType) -> set[str]:
    """The files of kernels that those of a room import."""
    found: set[str] = set()
    for path in Path(str(room.__file__)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())) if path.parent.name != "kernels" else ():
            if isinstance(node, ast.ImportFrom) and node.module == KERNELS:
                found.update(f"{KERNELS}.{each.name}" for each in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module))
    return {name for name in found if name.startswith(f"{KERNELS}.")} - {f"{KERNELS}.compiled", needed.__name__}


@pytest.mark.parametrize(
    ("room", "prepare"), [(content, needed.prepare_audit), (conversion, needed.prepare_comparison)]
)
def test_what_a_room_calls_is_prepared_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, room: ModuleType, prepare: Callable[[], None]
) -> None:
    names: list[str] = []
    monkeypatch.setattr(needed, "prepare", lambda modules, _: names.extend(each.__name__ for each in modules))
    prepare()
    assert sorted(names) == sorted(imported_by(room))


WATCHED = """
import sys
from auditor import audit
from auditor.content.kernels import compiled, needed
from auditor.conversion import Comparing
from auditor.questions.values import compare_values

def have():
    dispatchers = {each for kernels in compiled._kernels.values() for each, _ in kernels}
    return {(each.__name__, signature) for each in dispatchers for signature in each.overloads}

def prepare(modules, preparing):
    compiled.prepare(modules, preparing)
    had.append(have())

had, needed.prepare, (one, other) = [], prepare, sys.argv[1:]
"""


@pytest.mark.parametrize("question", ["audit(one, depth='full')", "compare_values(one, other, Comparing())"])
def test_no_thread_compiles_a_kernel(tmp_path: Path, question: str) -> None:
    """In a process of its own, as kernels are there for all that follows in one."""
    sides = [str(forge(tmp_path / str(seed), like="tiny", seed=seed).directory) for seed in (1, 2)]
    program = f"{WATCHED}\n{question}\nassert had and had[0] == have(), had"
    done = subprocess.run([sys.executable, "-c", program, *sides], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
