"""Audits of values in one process at once: each gives what it gives alone, and the process stays as it was."""

import gc
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from auditor import audit
from auditor.content import Reading
from auditor.forge import forge

DEPTHS: tuple[Literal["full", "sample"], ...] = ("full", "sample", "full")
BREAKS = (None, "zero-norm", "nan-codes")

FRESH = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
sys.path[:0] = sys.argv[2].split(":")
from tests.content.test_two_at_once import DEPTHS, audited
from pathlib import Path
with ThreadPoolExecutor(len(DEPTHS)) as threads:
    print(json.dumps(list(threads.map(lambda number: audited(Path(sys.argv[1]), number), range(len(DEPTHS))))))
"""


def audited(folder: Path, number: int, state: Path | None = None) -> dict[str, Any]:
    """A report without its times."""
    depth = DEPTHS[number]
    reading = Reading(
        depth=depth, seed=number, sample_bytes=1 << 20, jobs=2, resume=str(state) if state is not None else None
    )
    report = audit(folder / str(number), depth=depth, reading=reading)
    return report.model_dump(mode="json", exclude={"run": {"started_at", "duration_s"}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint for each number, all but the first of them broken."""
    folder = tmp_path_factory.mktemp("several")
    for number, name in enumerate(BREAKS):
        forge(folder / str(number), like="tiny", break_name=name)
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> list[dict[str, Any]]:
    """What each gives alone."""
    found = [audited(folder, number) for number in range(len(DEPTHS))]
    assert [each["verdict"] for each in found] == ["passed", "failed", "failed"]
    return found


def test_audits_at_once_give_what_each_gives_alone(folder: Path, alone: list[dict[str, Any]]) -> None:
    with ThreadPoolExecutor(len(DEPTHS)) as threads:
        for _ in range(3):
            assert list(threads.map(lambda number: audited(folder, number), range(len(DEPTHS)))) == alone


def test_so_do_those_that_a_process_begins_with(folder: Path, alone: list[dict[str, Any]]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(folder), str(Path(__file__).parents[2])],
        capture_output=True, text=True, timeout=300, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert json.loads(done.stdout) == alone


def test_a_process_is_left_as_it_was(folder: Path, tmp_path: Path) -> None:
    audited(folder, 0)  # what libraries set when they are imported is theirs

    def state() -> list[object]:
        handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGABRT)]
        return [gc.isenabled(), dict(os.environ), handlers, np.geterr(), set(sys.modules), Path.cwd()]

    before = state()
    for number in range(len(DEPTHS)):
        audited(folder, number, tmp_path / str(number))
    assert state() == before
