"""Threads that wait for a network in others' stead."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from auditor.threads import Thread


class Crew:
    """At most so many threads, which do jobs in the order in which they are given and end when none is left."""

    def __init__(self, name: str, most: int) -> None:
        self.most = most
        self._name = name
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], None]] = deque()
        self._threads = 0

    def give(self, jobs: Iterable[Callable[[], None]]) -> None:
        """Jobs, none of which raises anything."""
        with self._lock:
            self._jobs.extend(jobs)
            fresh = max(0, min(self.most - self._threads, len(self._jobs)))
            self._threads += fresh
        for _ in range(fresh):
            Thread(self._work, self._name).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._threads -= 1
                    return
                job = self._jobs.popleft()
            job()
