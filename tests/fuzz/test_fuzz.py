"""A short fuzz of each target within every check; the long one is `make fuzz`."""

import mmap
from collections import Counter

import pytest

from tests.fuzz.running import MEMORY_BYTES, TARGETS, page, run_all

CASES = {
    "headers": 3000, "indexes": 2000, "configs": 1500, "policies": 500, "reports": 150, "states": 500, "listings": 100,
    "filesets": 200, "checkpoints": 1000, "bulk": 6,
}  # fmt: skip
# A fuzz that only ever gets one answer would prove little: this one must come, in so many cases of a hundred.
SOUND = {
    "headers": "sound", "indexes": "read", "configs": "configured", "policies": "taken", "filesets": "passed",
    "checkpoints": "passed",
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_no_damage_crashes_hangs_or_is_answered_against_another_reading(target: str) -> None:
    tally = run_all(target, seed=20, numbers=range(CASES[target]), jobs=1)
    assert tally.wrong == []
    assert tally.cases == CASES[target]
    if target in SOUND:
        assert 0.01 * tally.cases < tally.verdicts[SOUND[target]] < 0.9 * tally.cases
    if target == "checkpoints":
        assert len(tally.fired) >= 20


def test_the_limit_on_memory_is_for_the_cases_and_not_for_who_runs_them() -> None:
    with mmap.mmap(-1, MEMORY_BYTES + (1 << 30)):  # of address space alone; as torch and others take it
        assert run_all("headers", seed=21, numbers=range(10), jobs=1).wrong == []


def test_runs_add_up_by_target() -> None:
    run = {"target": "headers", "seed": 1, "first": 0, "cases": 5, "seconds": 1, "wrong": 0, "slowest_ms": 2}
    run |= {"memory_mib": 40, "verdicts": Counter(sound=5), "rules": []}
    told = page([run, {**run, "seed": 2, "cases": 7}])
    assert "12 cases, 0 wrong" in told
    assert "| headers | 12 | 1, 2 | 10 sound |" in told
