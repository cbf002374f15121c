"""Where content work runs: this machine's cores, or Ray's nodes; who gives work knows only what is promised here."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

Task_contra = TypeVar("Task_contra", contravariant=True)


class Engine(Protocol[Task_contra]):
    """Runs tasks, and tells of each that it is finished or has failed, in the caller's thread.

    `broken` is why no worker could begin, if none could. `workers` do tasks at once, on so many `nodes`; `retries`
    counts tasks that were begun again.
    """

    broken: Exception | None
    workers: int
    nodes: int
    retries: int

    def run(self, tasks: Sequence[Task_contra], meanwhile: Callable[[], None] | None = None) -> None:
        """Do every task, the first ones first; and in the caller's thread, which only waits for them, `meanwhile`.

        An interruption lets no further task begin, ends those under way, and is passed on.
        """
