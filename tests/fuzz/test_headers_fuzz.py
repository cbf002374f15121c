"""A short fuzz within every check; the long one is `make fuzz`."""

from headers_fuzz import run_all

CASES = 2_000


def test_no_damage_crashes_hangs_or_passes_unseen() -> None:
    tally = run_all(seed=20, cases=CASES, jobs=1)
    assert tally.wrong == []
    assert tally.cases == CASES
    # A fuzz that only ever fails, or that hits few rules, would prove little.
    assert tally.verdicts["passed"] > CASES / 100
    assert tally.verdicts["failed"] > CASES / 2
    assert len(tally.rules) >= 20
