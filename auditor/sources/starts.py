"""The starts of a remote source's files, fetched at once and ahead of who asks: configuration, index and headers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from auditor.errors import ReadError, SourceError, code_of
from auditor.sources.crew import Crew
from auditor.sources.http.answer import AbsentError, Answer, UnchangedError
from auditor.sources.http.transport import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.sources.cache import Cache
    from auditor.sources.entry import Entry
    from auditor.sources.protocol import Need

START = 80 << 10  # the speculative first read: the header of nearly every shard of a release
_HELD = 64 << 20  # bytes fetched ahead that nobody has asked for yet
_PEEK = 64 << 10  # bytes of it are enough to say how much is needed


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

    def needed(self, data: bytes | memoryview, size: int) -> int:
        """How many bytes of a file that begins so are wanted."""
        return len(data) if self.need is None else min(self.need(bytes(data[:_PEEK]), size), size)


class Starts:
    """The starts that were asked for, each fetched by a thread of its own, as many at once as may be.

    `fetch` reads ranges as a remote source does; `entry` is what the listing says of a file, None where there is none.
    """

    def __init__(
        self,
        fetch: Callable[..., Answer],
        entry: Callable[[str], Entry | None],
        *,
        cache: Cache | None,
        location: str,
        listed: bool,
    ) -> None:
        self._fetch = fetch
        self._entry = entry
        self._cache = cache
        self._location = location
        self._listed = listed
        self._lock = threading.Condition()
        self._known: dict[str, Start] = {}
        self._arrived: deque[str] = deque()
        self._pending = 0  # known and not yet there
        self._held = 0
        self._closed = self._warmed = False
        self._crew = Crew("auditor-ahead", CONNECTIONS)

    def find(self, path: str) -> Start | None:
        """The start of a file if it has been asked for and has come."""
        with self._lock:
            start = self._known.get(path)
        return start if start is not None and start.done.is_set() else None

    @property
    def versioned(self) -> bool:
        """Whether the store names a version of all that has come."""
        with self._lock:
            arrived = [each for each in self._known.values() if each.done.is_set() and each.error is None and each.size]
        return all(each.etag is not None for each in arrived)

    def ahead(self, paths: Sequence[str], need: Need, first: int) -> None:
        """Begin to fetch the starts of these files."""
        with self._lock:
            fresh = [Start(path, need, first or START) for path in dict.fromkeys(paths) if path not in self._known]
            self._known.update((start.path, start) for start in fresh)
            self._pending += len(fresh)
        self._crew.give(partial(self._begin, start) for start in fresh)

    def warm(self, connect: Callable[[], None], count: int) -> None:
        """Open connections meanwhile, once. The starts to come share these: waiting for one is sooner than another."""
        with self._lock:
            if self._warmed:
                return
            self._warmed, self._crew.most = True, count
        self._crew.give([connect] * count)

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
        start.done.wait()
        with self._lock:
            self._held -= start.held
            start.held = 0
            self._lock.notify_all()
        return start

    def arriving(self, until: str | None) -> Iterator[str]:
        """Files asked for ahead, as their starts come: all, or until that of `until` has come."""
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._arrived or self._closed or self._complete(until))
                if not self._arrived:
                    return
                path = self._arrived.popleft()
            if path != until:
                yield path

    def _complete(self, until: str | None) -> bool:
        if until is None:
            return self._pending == 0
        return until not in self._known or self._known[until].done.is_set()

    def close(self) -> None:
        """Begin nothing more, and leave nobody waiting for what was not begun."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    # --- one start ---

    def _begin(self, start: Start) -> None:
        """By a thread of the crew, when as much may be held."""
        with self._lock:
            self._lock.wait_for(lambda: self._held < _HELD or self._closed or start.claimed)
            if start.claimed:
                return
            start.claimed, start.held = True, start.first
            self._held += start.first
        self._fill(start)

    def _fill(self, start: Start) -> None:
        try:
            if self._closed:
                raise ReadError(f"{start.path}: was not read: the audit has ended", code="cancelled")
            self._read(start)
        except ReadError as error:
            start.error = error
        except SourceError as error:
            start.error = ReadError(f"{start.path}: {error}", code=error.code)
        except Exception as error:  # a thread of ours must not die with somebody waiting
            start.error = ReadError(f"{start.path}: could not be read ({type(error).__name__})", code=code_of(error))
        finally:
            with self._lock:
                self._pending -= 1
                if start.error is not None:  # there is nothing that anybody would take
                    self._held -= start.held
                    start.held = 0
                self._arrived.append(start.path)
                start.done.set()
                self._lock.notify_all()

    def _read(self, start: Start) -> None:
        """Take it from the cache, or ask for it; the cached start of a file that is not listed is confirmed."""
        path, need, end, known = start.path, start.need, start.first, self._entry(start.path)
        if known is not None and known.kind == "absent":
            raise AbsentError(f"{path}: is not there")
        identity = None if known is None else known.sha256 or known.etag
        cached = self._cache.find(self._location, path, identity) if self._cache is not None else None
        if cached is not None and known is not None:
            start.data, start.size, start.etag = cached.data, cached.size, known.etag
            return
        if cached is not None and need is not None:
            need(cached.data, cached.size)  # it may hint at more files, which need not wait for a confirmation
        peek = None
        if known is not None and known.sized:
            whole = need is not None and known.size <= need(b"", known.size)  # in one request
            end = known.size if whole else min(START, known.size)
            if not end:
                return
        elif need is not None and end > START:  # nor for the end of a file that is long for a start
            peek = partial(_look, need)
        try:
            answer = self._fetch(
                path,
                0,
                end,
                etag=None if known is None else known.etag,
                unless=None if cached is None else cached.identity,
                peek=peek,
            )
        except UnchangedError:
            assert cached is not None
            start.data, start.size, start.etag = cached.data, cached.size, cached.identity
            return
        except AbsentError as error:
            if known is None:
                raise
            raise ReadError(f"{path}: was listed and is not there any more", code="changed") from error
        if known is not None and known.sized and answer.size != known.size:
            told = f"is {answer.size:,} bytes, was listed with {known.size:,}: changed since"
            raise ReadError(f"{path}: {told}", code="changed")
        start.data, start.size, start.etag = answer.data, answer.size, answer.etag
        needed = start.needed(answer.data, answer.size)
        if needed > len(start.data) and self._reserve(start, needed - len(start.data)):
            rest = self._fetch(path, len(start.data), needed, etag=start.etag)
            start.data = b"".join([start.data, rest.data])
        self._remember(start, identity, needed)

    def _reserve(self, start: Start, count: int) -> bool:
        """Whether so many bytes more may be held; otherwise they are read when they are asked for."""
        with self._lock:
            if self._held + count > _HELD:
                return False
            start.held += count
            self._held += count
            return True

    def _remember(self, start: Start, identity: str | None, need: int) -> None:
        if self._cache is None or len(start.data) < need:
            return
        identity = identity or start.etag
        if identity is not None and not identity.startswith("W/"):
            latest = not self._listed  # which nobody else will tell
            self._cache.keep(self._location, start.path, identity, start.data[:need], start.size, latest=latest)


def _look(need: Need, data: bytes) -> None:
    """Have what is needed of a file worked out from its first bytes: an index names the shards to ask for."""
    need(data, 0)
