"""The starts of a remote source's files, fetched at once and ahead of who asks: configuration, index and headers."""

from __future__ import annotations

import select
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from auditor.errors import ReadError, SourceError
from auditor.sources.http.answer import AbsentError, Answer, UnchangedError
from auditor.sources.http.lane import Call, Lane
from auditor.sources.http.request import Asked
from auditor.sources.http.transport import CONNECTIONS

if TYPE_CHECKING:
    from auditor.sources.cache import Cached
    from auditor.sources.entry import Entry
    from auditor.sources.protocol import Need
    from auditor.sources.remote import Remote

START = 80 << 10  # the speculative first read: the header of nearly every shard of a release
_HELD = 64 << 20  # bytes fetched ahead that nobody has asked for yet
_CLOSING_S = 1.0
_PEEK = 64 << 10  # bytes of it are enough to say how much is needed
_TURN_S = 0.05  # how long one thread drives before it looks whether another wants to


class Start:
    """The start of one file: fetched by whoever claims it first, then known to all."""

    def __init__(self, path: str, need: Need | None, first: int) -> None:
        self.path = path
        self.need = need
        self.first = first  # bytes to ask for where it is not known how many there are
        self.claimed = False
        self.done = threading.Event()
        self.data: bytes | memoryview = b""
        self.size = 0
        self.etag: str | None = None
        self.error: ReadError | None = None
        self.held = 0
        self.plan: Plan | None = None
        self.deadline: float | None = None


class Plan(NamedTuple):
    """What is to be asked for: the first `end` bytes of a file that is `known`, or `cached`, or neither."""

    end: int
    known: Entry | None
    cached: Cached | None

    @property
    def identity(self) -> str | None:
        """The store's own name for the content, where the listing has one."""
        return None if self.known is None else self.known.sha256 or self.known.etag


class Starts:
    """The starts that were asked for. First attempts go through a lane where the source is read directly."""

    def __init__(self, remote: Remote, *, direct: bool) -> None:
        self._remote = remote
        self._lock = threading.Condition()
        self._known: dict[str, Start] = {}
        self._queue: deque[Start] = deque()  # to be begun
        self._again: deque[tuple[Start, Answer | Exception | None]] = deque()  # begun, and not done with one attempt
        self._arrived: deque[str] = deque()
        self._pending = 0  # known and not yet there
        self._held = 0
        self._workers = 0
        self._closed = False
        self._lane = Lane(remote.transport) if direct and hasattr(select, "poll") else None
        self._driver = threading.Lock()  # held by the one thread that uses the lane
        self._at_once = CONNECTIONS
        self._unopened: list[str] = []  # connections to be opened by whoever drives next
        self._waiting = 0  # threads that would rather drive than wait
        self._driving = False  # a thread of its own does

    def find(self, path: str) -> Start | None:
        """The start of a file if it has been asked for and has come."""
        with self._lock:
            start = self._known.get(path)
        return start if start is not None and start.done.is_set() else None

    @property
    def versioned(self) -> bool:
        """Whether the store names a version of all that has come."""
        with self._lock:
            come = [each for each in self._known.values() if each.done.is_set() and each.error is None and each.size]
        return all(each.etag is not None for each in come)

    def ahead(self, paths: Sequence[str], need: Need, first: int) -> None:
        """Begin to fetch the starts of these files, as many at once as there may be connections."""
        with self._lock:
            for path in paths:
                if path not in self._known:
                    start = self._known[path] = Start(path, need, first or START)
                    self._pending += 1
                    self._queue.append(start)
        if self._lane is None:
            self._employ(len(self._queue))
            return
        with self._lock:
            fresh = not self._driving and not self._driver.locked()
            self._driving = self._driving or fresh
        if fresh:
            threading.Thread(target=self._drive_alone, name="auditor-ahead", daemon=True).start()

    def get(self, path: str) -> Start:
        """The start of a file, fetched now unless it has been or is being fetched."""
        with self._lock:
            start = self._known.get(path)
            if start is None:
                start = self._known[path] = Start(path, None, START)
                self._pending += 1
            mine, start.claimed = not start.claimed, True
        if mine:
            self._fill(start)
        self._wait(start)
        with self._lock:
            self._held -= start.held
            start.held = 0
            self._lock.notify_all()
        return start

    def arriving(self, until: str | None) -> Iterator[str]:
        """Files asked for ahead, as their starts come: all, or until that of `until` has come."""
        while True:
            if self._queue and self._driver.acquire(blocking=False):  # what waits for a connection may have one by now
                try:
                    self._drive(0.0)
                finally:
                    self._driver.release()
            with self._lock:
                path = self._arrived.popleft() if self._arrived else None
                last = None if until is None else self._known.get(until)
                come = self._pending == 0 if until is None else last is None or last.done.is_set()
                if path is None and (come or self._closed):
                    return
            if path is None:
                self._turn(lambda: bool(self._arrived))
            elif path != until:
                yield path

    def close(self) -> None:
        """Stop what is under way."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            self._unopened.clear()
            self._lock.notify_all()
        if self._lane is not None:
            self._lane.wake()
            if self._driver.acquire(timeout=_CLOSING_S):  # an interruption may have left it with nobody
                self._lane.close()
                self._driver.release()

    # --- who drives the lane ---

    def _wait(self, start: Start) -> None:
        while not start.done.is_set():
            self._turn(start.done.is_set)

    def _turn(self, enough: Callable[[], bool]) -> None:
        """Go on with what is under way, or wait a moment while another thread does, unless it is enough."""
        if self._lane is None or not (self._lane or self._queue):
            with self._lock:
                if not enough():
                    self._lock.wait(_TURN_S)
            return
        with self._lock:
            self._waiting += 1
        try:
            if not self._driver.acquire(blocking=False):
                self._lane.wake()
                self._driver.acquire()
            try:
                if not enough():
                    self._drive()
            finally:
                self._driver.release()
        finally:
            with self._lock:
                self._waiting -= 1

    def _drive_alone(self) -> None:
        """Until nothing is left to do, or a thread that waits takes over."""
        assert self._lane is not None
        while True:
            with self._driver:
                self._drive()
            with self._lock:
                if self._closed or self._waiting or not (self._lane or self._queue):
                    self._driving = False
                    return

    def _drive(self, timeout: float = _TURN_S) -> None:
        """Begin what may be begun, and go on with what is under way; wait so long for it, seconds."""
        lane = self._lane
        if lane is None:
            return
        with self._lock:
            unopened, self._unopened = self._unopened, []
        for url in unopened:
            lane.open(url)
        while True:
            with self._lock:
                full = self._closed or len(lane) >= self._at_once or self._held >= _HELD
                start = self._queue.popleft() if self._queue and not full else None
                if start is not None and start.claimed:
                    continue
                if start is not None:
                    start.claimed, start.held = True, start.first
                    self._held += start.first
            if start is None:
                break
            self._call(lane, start)
        lane.pump(timeout if lane else 0.0)

    def _call(self, lane: Lane, start: Start) -> None:
        """The first attempt at a start, in the lane."""
        remote = self._remote

        def done(_: Call, outcome: Answer | Exception | None) -> None:
            if self._closed:
                start.error = ReadError(f"{start.path}: was not read: the audit has ended")
                self._done(start)
                return
            whole = isinstance(outcome, Answer) and self._needed(start, outcome) <= len(outcome.data)
            if whole or isinstance(outcome, AbsentError | UnchangedError):
                self._fill(start, outcome)
            else:
                with self._lock:
                    self._again.append((start, outcome))
                self._employ(1)

        try:
            plan = start.plan = self._plan(start)
            if plan is None:
                self._done(start)
                return
            start.deadline = remote.transport.deadline()
            etag, unless = self._conditions(plan)
            where = remote._locate(start.path, False)
            asked = Asked(start.path, where, 0, plan.end, start.deadline, remote._condition(etag), unless)
        except (ReadError, SourceError):
            self._fill(start)  # as it would without a lane
            return
        need = start.need
        peek = None if need is None or plan.known is not None or start.first == START else lambda data: need(data, 0)
        lane.add(Call(asked, done, peek))

    @staticmethod
    def _needed(start: Start, answer: Answer) -> int:
        return (
            len(answer.data)
            if start.need is None
            else min(start.need(bytes(answer.data[:_PEEK]), answer.size), answer.size)
        )

    def warm(self, url: str, count: int) -> None:
        """Begin to open so many connections. The starts to come use these: waiting for one is sooner than another."""
        if self._lane is not None:
            self._at_once = count
            with self._lock:
                self._unopened += [url] * count
            self._lane.wake()

    # --- threads for what one attempt has not settled ---

    def _employ(self, count: int) -> None:
        with self._lock:
            wanted = min(CONNECTIONS, self._workers + count)
            fresh = wanted - self._workers
            self._workers = wanted
        for _ in range(fresh):
            threading.Thread(target=self._work, name="auditor-ahead", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if self._again:
                    start, outcome = self._again.popleft()
                elif self._lane is not None:
                    self._workers -= 1
                    return
                else:
                    while self._queue and self._held >= _HELD and not self._closed:
                        self._lock.wait()
                    if not self._queue or self._closed:
                        self._workers -= 1
                        return
                    start, outcome = self._queue.popleft(), None
                    if start.claimed:
                        continue
                    start.claimed, start.held = True, start.first
                    self._held += start.first
            self._fill(start, outcome)

    def _fill(self, start: Start, first: Answer | Exception | None = None) -> None:
        try:
            self._fetch(start, first)
        except ReadError as error:
            start.error = error
        except SourceError as error:
            start.error = ReadError(f"{start.path}: {error}")
        except Exception as error:  # a thread of ours must not die with somebody waiting
            start.error = ReadError(f"{start.path}: could not be read ({type(error).__name__})")
        finally:
            self._done(start)

    def _done(self, start: Start) -> None:
        with self._lock:
            self._pending -= 1
            if start.error is not None:  # there is nothing that anybody would take
                self._held -= start.held
                start.held = 0
            self._arrived.append(start.path)
            start.done.set()
            self._lock.notify_all()
        if self._lane is not None:
            self._lane.wake()

    # --- one start ---

    def _plan(self, start: Start) -> Plan | None:
        """What to ask for; None where it is known already, and the start then has it."""
        remote, path = self._remote, start.path
        known = remote._known(path)
        if known is not None and known.kind == "absent":
            raise AbsentError(f"{path}: is not there")
        identity = None if known is None else known.sha256 or known.etag
        cached = remote.cache.find(remote.location, path, identity) if remote.cache is not None else None
        if cached is not None and known is not None:
            start.data, start.size, start.etag = cached.data, cached.size, known.etag
            return None
        if cached is not None and start.need is not None:
            start.need(cached.data, cached.size)  # it may hint at more files, which need not wait for a confirmation
        sized = known is not None and known.sized
        if known is not None and sized and known.size == 0:
            return None
        end = start.first if known is None or not sized else min(START, known.size)
        if known is not None and sized and start.need is not None and known.size <= start.need(b"", known.size):
            end = known.size  # all of it, in one request
        return Plan(end, known, cached)

    @staticmethod
    def _conditions(plan: Plan) -> tuple[str | None, str | None]:
        """The ETag that the file must have, and the one that it would be known with."""
        known = None if plan.known is None else plan.known.etag
        return known, None if plan.cached is None else plan.cached.identity

    def _fetch(self, start: Start, first: Answer | Exception | None) -> None:
        path, remote = start.path, self._remote
        plan = start.plan or self._plan(start)
        if plan is None:
            return
        known, cached = plan.known, plan.cached
        etag, unless = self._conditions(plan)
        try:
            answer = remote._fetch(path, 0, plan.end, etag=etag, unless=unless, first=first, deadline=start.deadline)
        except UnchangedError:
            assert cached is not None
            start.data, start.size, start.etag = cached.data, cached.size, cached.identity
            return
        except AbsentError as error:
            if known is None:
                raise
            raise ReadError(f"{path}: was listed and is not there any more") from error
        if known is not None and known.sized and answer.size != known.size:
            raise ReadError(f"{path}: is {answer.size:,} bytes, was listed with {known.size:,}: changed since")
        start.data, start.size, start.etag = answer.data, answer.size, answer.etag
        need = self._needed(start, answer)
        if need > len(start.data) and self._reserve(start, need - len(start.data)):
            rest = remote._fetch(path, len(start.data), need, etag=start.etag)
            start.data = b"".join([start.data, rest.data])
        self._remember(start, plan.identity, need)

    def _reserve(self, start: Start, count: int) -> bool:
        """Whether so many bytes more may be held; otherwise they are read when they are asked for."""
        with self._lock:
            if self._held + count > _HELD:
                return False
            start.held += count
            self._held += count
            return True

    def _remember(self, start: Start, identity: str | None, need: int) -> None:
        cache = self._remote.cache
        if cache is None or len(start.data) < need:
            return
        identity = identity or start.etag
        if identity is not None and not identity.startswith("W/"):
            latest = not self._remote.listed  # which nobody else will tell
            cache.keep(self._remote.location, start.path, identity, start.data[:need], start.size, latest=latest)
