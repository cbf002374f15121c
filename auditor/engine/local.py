"""Content work on this machine's cores: one thread each, as the kernels, the digests and reading need no lock."""

import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from auditor.threads import Thread

Task = TypeVar("Task")
Result = TypeVar("Result")

_POLL_S = 0.1


class Stopped(Exception):  # noqa: N818  # no error: somebody asked for it
    """Raised in a worker that was told to stop."""


class Meter:
    """Bytes read by all workers; and what tells them to stop."""

    def __init__(self) -> None:
        self.done = 0
        self.stopping = False
        self._lock = threading.Lock()

    def tick(self, count: int) -> None:
        """Count bytes; raises Stopped where the work is no longer wanted."""
        if self.stopping:
            raise Stopped
        with self._lock:
            self.done += count


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Local(Generic[Task, Result]):
    """Runs tasks on `jobs` threads. `worker(meter)` makes each thread's own way to do a task.

    `finished(task, result)` and `failed(task, error)` are called in the caller's thread, as is `watch(done)`
    with the bytes read so far, some ten times a second. An interruption lets no further task begin, ends those
    under way, and is passed on when every thread has ended.
    """

    def __init__(
        self,
        jobs: int,
        worker: Callable[[Meter], Callable[[Task], Result]],
        *,
        finished: Callable[[Task, Result], None],
        failed: Callable[[Task, Exception], None],
        watch: Callable[[int], None],
    ) -> None:
        self._jobs = jobs
        self._worker = worker
        self._finished = finished
        self._failed = failed
        self._watch = watch
        self._meter = Meter()
        self.broken: Exception | None = None  # why a thread could not begin
        self.workers, self.nodes, self.retries = jobs, 1, 0
        self._waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[tuple[Task, Result | None, BaseException | None] | None] = queue.SimpleQueue()

    def run(self, tasks: Sequence[Task], meanwhile: Callable[[], None] | None = None) -> None:
        """Do every task, the first ones first; and in the caller's thread, which only waits for them, `meanwhile`."""
        for task in tasks:
            self._waiting.put(task)
        threads = [Thread(self._work, f"content-{number}") for number in range(min(self._jobs, len(tasks)))]
        self.workers = len(threads)
        begun: list[Thread] = []
        try:
            for thread in threads:
                thread.start()
                begun.append(thread)
            if meanwhile is not None:
                meanwhile()
            self._collect(len(threads))
        except BaseException:
            self._meter.stopping = True
            for thread in begun:
                thread.join()
            self._hand_over()
            raise

    def _hand_over(self) -> None:
        """What was finished while the interruption came."""
        while True:
            try:
                ended = self._ended.get_nowait()
            except queue.Empty:
                return
            if ended is not None and ended[1] is not None:
                self._finished(ended[0], ended[1])

    def _collect(self, running: int) -> None:
        while running:
            try:
                ended = self._ended.get(timeout=_POLL_S)
            except queue.Empty:
                self._watch(self._meter.done)
                continue
            if ended is None:
                running -= 1
                continue
            task, result, error = ended
            if isinstance(error, Exception):
                self._failed(task, error)
            elif error is not None:
                raise error
            else:
                assert result is not None
                self._finished(task, result)
            self._watch(self._meter.done)

    def _work(self) -> None:
        try:
            try:
                do = self._worker(self._meter)
            except Exception as error:  # said of the tasks that are left, by who gave them
                self.broken = error
                return
            while not self._meter.stopping:
                try:
                    task = self._waiting.get_nowait()
                except queue.Empty:
                    break
                try:
                    self._ended.put((task, do(task), None))
                except Stopped:
                    break
                except BaseException as error:  # the collecting thread answers for it
                    self._ended.put((task, None, error))
        finally:
            self._ended.put(None)
