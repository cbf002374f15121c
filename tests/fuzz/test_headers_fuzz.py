"""A short fuzz within every check; the long one is `make fuzz`."""

import mmap

from headers_fuzz import MEMORY_BYTES, run_all

CASES = 2_000


def test_no_damage_crashes_hangs_or_passes_unseen() -> None:
    tally = run_all(seed=20, cases=CASES, jobs=1)
    assert tally.wrong == []
    assert tally.cases == CASES
    # A fuzz that only ever fails, or that hits few rules, would prove little.
    assert tally.verdicts["passed"] > CASES / 100
    assert tally.verdicts["failed"] > CASES / 2
    assert len(tally.rules) >= 20


def test_the_limit_on_memory_is_for_the_cases_and_not_for_who_runs_them() -> None:
    with mmap.mmap(-1, MEMORY_BYTES + (1 << 30)):  # of address space alone; as torch and others take it
        assert run_all(seed=21, cases=10, jobs=1).wrong == []
