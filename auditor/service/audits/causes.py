"""Why an attempt gave no verdict, as a closed list, and which of these may go away by themselves."""

from typing import Literal, get_args

from auditor_schemas.codes import Cause

# Beside what an audit says of itself, what its worker sees.
Outcome = Literal[
    Cause,
    "killed",  # the process ended by a signal that nobody here sent
    "timed_out",  # it ran longer than the settings allow
    "worker_lost",  # the worker that ran it is gone
    "no_report",  # the process ended without a whole report, and without saying why
]

CAUSES: tuple[str, ...] = get_args(Outcome)
# What can succeed next time. Out of memory may be others' doing, once.
TRANSIENT = frozenset({"unreachable", "throttled", "changed", "killed", "no_report", "out_of_memory", "unreadable"})
ONCE = frozenset({"out_of_memory"})


def again(causes: frozenset[str], tries: int, most: int) -> bool:
    """Whether to try again after `tries` of `most` attempts, the last of which ended for these causes."""
    if not causes or not causes <= TRANSIENT or tries >= most:
        return False
    return not (causes & ONCE) or tries < 2


def delay_ms(tries: int) -> int:
    """How long to wait after so many attempts: 30 s, 2 min, 8 min, …, at most an hour."""
    return int(min(30_000 * 4 ** (tries - 1), 3_600_000))
