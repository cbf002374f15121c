"""Threads that begin, or say that they do not."""

import _thread
import threading
from collections.abc import Callable

_BEGINS_S = 30


class Thread:
    """A thread that ends with the process.

    `threading.Thread.start` waits for ever for a thread that gets no memory to begin, and nobody learns of it.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self.name = name
        self._work = work
        self._began, self._over = threading.Event(), threading.Event()

    def start(self) -> None:
        """Raises RuntimeError where no thread can be had, and MemoryError for one that does not begin."""
        _thread.start_new_thread(self._run, ())
        if not self._began.wait(_BEGINS_S):
            raise MemoryError(f"{self.name}: a thread did not begin within {_BEGINS_S} s")

    def join(self) -> None:
        """Wait until it has ended."""
        self._over.wait()

    def _run(self) -> None:
        self._began.set()
        try:
            self._work()
        finally:
            self._over.set()
