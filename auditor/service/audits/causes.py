"""Why an attempt gave no verdict, as a closed list, and which of these may go away by themselves."""

from typing import Literal, get_args

Cause = Literal[
    # Codes of a report's `incomplete`, and of what ended an audit without one.
    "unreachable",
    "throttled",
    "changed",
    "unauthorized",
    "forbidden",
    "not_found",
    "not_allowed",
    "unreadable",
    "limit",
    "cancelled",
    "out_of_memory",
    "unsupported",
    "crashed",
    "not_saved",
    "killed",  # the process ended by a signal that nobody here sent
    "timed_out",  # it ran longer than the settings allow
    "worker_lost",  # the worker that ran it is gone
    "no_report",  # the process ended without a whole report, and without saying why
    "usage",  # what was asked for cannot be
    "nothing",  # nothing auditable at the source
]

CAUSES: tuple[str, ...] = get_args(Cause)
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
