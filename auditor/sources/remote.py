"""What every remote source shares: starts of files fetched at once, ahead of who asks; content read in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from auditor.entry import Entry
from auditor.errors import ReadError, SourceError
from auditor.sources.transport import CONNECTIONS, AbsentError, Answer, Located, Transport, UnchangedError, bare_etag
from auditor_schemas.defaults import LIMITS

if TYPE_CHECKING:
    from pathlib import Path

    from auditor.sources import Need
    from auditor.sources.cache import Cache

START = 80 << 10  # the speculative first read: the header of nearly every shard of a release
_HELD = 64 << 20  # bytes fetched ahead that nobody has asked for yet
_BLOCK = 4 << 20  # the most content that one request asks for
_WINDOW = 12 << 20  # of content of one file, fetched before it is read
_EXPECTED = 128 << 20  # of content of all files together
_FETCHERS = 48  # requests for it under way at once


class _Start:
    """The start of one file: fetched by whoever claims it first, then known to all."""

    def __init__(self, path: str, need: Need | None) -> None:
        self.path = path
        self.need = need
        self.claimed = False
        self.done = threading.Event()
        self.data = b""
        self.size = 0
        self.etag: str | None = None
        self.error: ReadError | None = None
        self.held = 0


class Remote:
    """A source whose files are read in ranges through a transport.

    A kind of source says where a file is (`_locate`) and, where it can list, what files there are (`_list`).
    `location` names the checkpoint in the cache, without revision and credentials.
    """

    listed = True
    remote = True

    def __init__(self, *, uri: str, location: str, transport: Transport, cache: Cache | None) -> None:
        self.uri = uri
        self.revision: str | None = None
        self._location = location
        self._transport = transport
        self._cache = cache
        self._lock = threading.Condition()
        self._starts: dict[str, _Start] = {}
        self._queue: deque[_Start] = deque()
        self._arrived: deque[str] = deque()
        self._held = 0
        self._workers = 0
        self._closed = False
        self._pieces: deque[_Piece] = deque()
        self._expected = 0
        self._fetchers = 0
        self._list_lock = threading.Lock()
        self._listing: tuple[dict[str, Entry], str | None] | None = None
        self._unlistable: SourceError | None = None

    # --- what a kind of source answers ---

    def _locate(self, path: str, renew: bool) -> Located:  # called by position, by the transport
        """Where a file is, and what to send along; anew with `renew`. Raises ReadError."""
        raise NotImplementedError

    def _list(self, limit: int) -> tuple[dict[str, Entry], str | None]:
        """Every file by its path, at most `limit`, and why that is not all. Raises SourceError."""
        raise NotImplementedError

    # --- the protocol ---

    def entries(self, limit: int) -> tuple[dict[str, Entry], str | None]:
        """The files at the top of the checkpoint, folders among them as such."""
        files, unlisted = self._files(limit)
        top: dict[str, Entry] = {}
        for path, entry in files.items():
            name, slash, _ = path.partition("/")
            if slash:
                top.setdefault(name, Entry("directory"))
            elif path:
                top[path] = entry
        return top, unlisted

    def entry(self, path: str) -> Entry:
        """One file as the listing has it, or `absent`."""
        return self._files(None)[0].get(path) or Entry("absent")

    def ahead(self, paths: Sequence[str], need: Need) -> None:
        """Begin to fetch the starts of these files, as many at once as there may be connections."""
        with self._lock:
            for path in paths:
                if path not in self._starts:
                    start = self._starts[path] = _Start(path, need)
                    self._queue.append(start)
            wanted = min(CONNECTIONS, self._workers + len(self._queue))
            fresh = wanted - self._workers
            self._workers = wanted
        for _ in range(fresh):
            threading.Thread(target=self._work, name="auditor-ahead", daemon=True).start()

    def warm(self, count: int) -> None:
        """Begin to open connections, where it is known to whom before any file is asked for."""

    def arriving(self, until: str) -> Iterator[str]:
        """Files asked for ahead, as their starts come, until that of `until` has come."""
        while True:
            with self._lock:
                while not self._arrived:
                    last = self._starts.get(until)
                    if last is None or last.done.is_set() or self._closed:
                        return
                    self._lock.wait()
                path = self._arrived.popleft()
            if path != until:
                yield path

    def open(self, path: str) -> RemoteFile:
        """The file with its start at hand; raises ReadError where that cannot be had."""
        start = self._start(path)
        if start.error is not None:
            raise start.error
        file = RemoteFile(self, start)
        start.data = b""  # the file has it; one opened again later reads what it is asked for
        return file

    @property
    def identity(self) -> str:
        """The place and the revision."""
        return f"{self._location}@{self.revision or ''}"

    def holds(self, path: Path) -> bool:
        """No local path lies in a remote checkpoint."""
        del path
        return False

    def stamp(self, path: str) -> str | None:
        """What the store names the bytes of a file; every range is held to it as it is read."""
        known = self._known(path)
        if known is not None:  # the same whether a header comes from the cache or not, as an ETag of storage is not
            return _stamp(known.size, known.sha256 or known.etag)
        with self._lock:
            start = self._starts.get(path)
        return None if start is None or not start.done.is_set() else _stamp(start.size, start.etag)

    def close(self) -> None:
        """Stop what is under way; nothing is read afterwards."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            waiting, self._pieces = self._pieces, deque()
            self._lock.notify_all()
        for piece in waiting:
            piece.abandon()
        self._transport.close()
        if self._cache is not None:
            self._cache.trim()

    # --- listing ---

    def _files(self, limit: int | None) -> tuple[dict[str, Entry], str | None]:
        with self._list_lock:  # whoever is first lists for all
            if self._unlistable is not None:
                raise self._unlistable
            if self._listing is None:
                try:
                    self._listing = self._list(limit or LIMITS["files"])
                except SourceError as error:
                    self._unlistable = error
                    raise
            return self._listing

    def _known(self, path: str) -> Entry | None:
        """What the listing says of a file; None where there is no listing."""
        return self._files(None)[0].get(path) or Entry("absent")

    # --- starts ---

    def _start(self, path: str) -> _Start:
        """The start of a file, fetched now unless it has been or is being fetched."""
        with self._lock:
            start = self._starts.get(path)
            if start is None:
                start = self._starts[path] = _Start(path, None)
            mine, start.claimed = not start.claimed, True
        if mine:
            self._fill(start)
        start.done.wait()
        with self._lock:
            self._held -= start.held
            start.held = 0
            self._lock.notify_all()
        return start

    def _work(self) -> None:
        while True:
            with self._lock:
                while self._queue and self._held >= _HELD and not self._closed:
                    self._lock.wait()
                if not self._queue or self._closed:
                    self._workers -= 1
                    return
                start = self._queue.popleft()
                if start.claimed:
                    continue
                start.claimed = True
                start.held = START
                self._held += START
            self._fill(start)

    def _fill(self, start: _Start) -> None:
        try:
            self._fetch_start(start)
        except ReadError as error:
            start.error = error
        except SourceError as error:
            start.error = ReadError(f"{start.path}: {error}")
        except Exception as error:  # a thread of ours must not die with somebody waiting
            start.error = ReadError(f"{start.path}: could not be read ({type(error).__name__})")
        finally:
            start.done.set()
            with self._lock:
                self._arrived.append(start.path)
                self._lock.notify_all()

    def _fetch_start(self, start: _Start) -> None:
        path, known = start.path, self._known(start.path)
        if known is not None and known.kind == "absent":
            raise AbsentError(f"{path}: is not there")
        identity = None if known is None else known.sha256 or known.etag
        cached = None
        if self._cache is not None:
            cached = self._cache.find(self._location, path, identity)
        if cached is not None and known is not None:
            start.data, start.size, start.etag = cached.data, cached.size, known.etag
            return
        if cached is not None and start.need is not None:
            start.need(cached.data, cached.size)  # it may hint at more files, which need not wait for a confirmation
        if known is not None and known.size == 0:
            return
        end = START if known is None else min(START, known.size)
        if known is not None and start.need is not None and known.size <= start.need(b"", known.size):
            end = known.size  # all of it, in one request
        try:
            answer = self._fetch(
                path,
                0,
                end,
                etag=None if known is None else known.etag,
                unless=None if cached is None else cached.identity,
            )
        except UnchangedError:
            assert cached is not None
            start.data, start.size, start.etag = cached.data, cached.size, cached.identity
            return
        except AbsentError as error:
            if known is None:
                raise
            raise ReadError(f"{path}: was listed and is not there any more") from error
        if known is not None and answer.size != known.size:
            raise ReadError(f"{path}: is {answer.size:,} bytes, was listed with {known.size:,}: changed since")
        start.data, start.size, start.etag = bytes(answer.data), answer.size, answer.etag
        need = len(start.data) if start.need is None else min(start.need(start.data, start.size), start.size)
        if need > len(start.data) and self._reserve(start, need - len(start.data)):
            rest = self._fetch(path, len(start.data), need, etag=start.etag)
            start.data += bytes(rest.data)
        self._remember(start, identity, need)

    def _reserve(self, start: _Start, count: int) -> bool:
        """Whether so many bytes more may be held; otherwise they are read when they are asked for."""
        with self._lock:
            if self._held + count > _HELD:
                return False
            start.held += count
            self._held += count
            return True

    def _remember(self, start: _Start, identity: str | None, need: int) -> None:
        if self._cache is None or len(start.data) < need:
            return
        identity = identity or start.etag
        if identity is not None and not identity.startswith("W/"):
            latest = not self.listed  # which nobody else will tell
            self._cache.keep(self._location, start.path, identity, start.data[:need], start.size, latest=latest)

    # --- content ahead of who reads it ---

    def _hold(self, count: int) -> bool:
        """Whether so many bytes of content more may be fetched ahead; they count until they are dropped."""
        with self._lock:
            if self._expected + count > _EXPECTED or self._closed:
                return False
            self._expected += count
            return True

    def _drop(self, piece: _Piece) -> None:
        with self._lock:
            if not piece.dropped:
                piece.dropped = True
                self._expected -= piece.end - piece.begin

    def _fetch_ahead(self, pieces: Sequence[_Piece]) -> None:
        with self._lock:
            self._pieces.extend(pieces)
            fresh = min(_FETCHERS - self._fetchers, len(pieces))
            self._fetchers += fresh
        for _ in range(fresh):
            threading.Thread(target=self._fetch_pieces, name="auditor-content", daemon=True).start()

    def _fetch_pieces(self) -> None:
        while True:
            with self._lock:
                if not self._pieces:
                    self._fetchers -= 1
                    return
                piece = self._pieces.popleft()
            if not piece.dropped:
                piece.fetch()

    def _fetch(
        self,
        path: str,
        begin: int,
        end: int,
        *,
        etag: str | None = None,
        unless: str | None = None,
        into: memoryview | None = None,
    ) -> Answer:
        """Bytes of a file through the transport, held to the identity that is known."""
        strong = etag if etag is not None and not etag.startswith("W/") else None
        return self._transport.fetch(
            path, lambda renew: self._locate(path, renew), begin, end, etag=strong, unless=unless, into=into
        )


def _stamp(size: int, name: str | None) -> str | None:
    return None if name is None or name.startswith("W/") else f"{size}:{bare_etag(name)}"


class RemoteFile:
    """An open remote file. `size` is the whole file's, as the store said.

    What is expected is fetched in pieces by threads of the source, and handed over as it is read; what is not is
    asked for when it is read.
    """

    window = _WINDOW

    def __init__(self, source: Remote, start: _Start) -> None:
        self._source = source
        self._path = start.path
        self._start = start.data
        self._etag = start.etag
        self._stamp = source.stamp(start.path)
        self.size = start.size
        self._expected: dict[int, _Piece] = {}  # by the first byte that has not been handed over

    def read(self, begin: int, end: int) -> bytes:
        """The bytes of the half-open range, those of the file's start without asking again."""
        if end <= len(self._start) or begin >= end:
            return self._start[begin:end]
        buffer = bytearray(end - begin)
        self.read_into(begin, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, begin: int, buffer: memoryview) -> None:
        """Fill the buffer, from the start and from what was expected as far as they go."""
        end, done = begin + len(buffer), 0
        if end > self.size:
            raise ReadError(f"{self._path}: ends at byte {self.size:,}, {len(buffer):,} more were asked for")
        while begin + done < end:
            at = begin + done
            if at < len(self._start):
                view = memoryview(self._start)[at:end]
                buffer[done : done + len(view)] = view
                done += len(view)
            elif (piece := self._expected.pop(at, None)) is not None:
                done += self._take(piece, buffer[done:])
            else:
                stop = min([each for each in self._expected if at < each < end], default=end)
                if stop > at + _BLOCK:  # long enough for several at once, if so much may be held
                    self.expect([(at + _BLOCK, stop)])
                    stop = at + _BLOCK
                self._fetch_into(at, buffer[done : stop - begin])
                done = stop - begin

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Begin to fetch these ranges; what may not be held is left until it is read."""
        fresh = []
        for first, last in ranges:
            begin = max(first, len(self._start))
            while begin < (end := min(last, self.size)):
                piece = _Piece(self, begin, min(end, begin + _BLOCK))
                if begin not in self._expected:
                    if not self._source._hold(piece.end - piece.begin):
                        break
                    self._expected[begin] = piece
                    fresh.append(piece)
                begin = piece.end
        if fresh:
            self._source._fetch_ahead(fresh)

    def stamp(self) -> str | None:
        """Size and the store's own name for the bytes, to which every range is held."""
        return self._stamp

    def close(self) -> None:
        """Nobody reads what is still expected."""
        for piece in self._expected.values():
            self._source._drop(piece)
        self._expected.clear()
        self._start = b""

    def _take(self, piece: _Piece, buffer: memoryview) -> int:
        """Hand over a piece's next bytes; what is left of it stays expected."""
        try:
            view = piece.wait()
        except ReadError:
            self._source._drop(piece)
            raise
        count = min(len(view) - piece.taken, len(buffer))
        buffer[:count] = view[piece.taken : piece.taken + count]
        piece.taken += count
        if piece.taken < len(view):
            self._expected[piece.begin + piece.taken] = piece
        else:
            self._source._drop(piece)
        return count

    def _fetch_into(self, begin: int, buffer: memoryview) -> None:
        try:
            answer = self._source._fetch(self._path, begin, begin + len(buffer), etag=self._etag, into=buffer)
        except SourceError as error:
            raise ReadError(f"{self._path}: {error}") from None
        if answer.size != self.size:
            raise ReadError(f"{self._path}: is {answer.size:,} bytes now, was {self.size:,}: changed while it was read")
        if len(answer.data) != len(buffer):
            raise ReadError(f"{self._path}: ended at byte {begin + len(answer.data):,} while it was read")


class _Piece:
    """A range of a file that is fetched before it is read; `taken` of its bytes have been handed over."""

    def __init__(self, file: RemoteFile, begin: int, end: int) -> None:
        self.begin = begin
        self.end = end
        self.taken = 0
        self.dropped = False
        self._file = file
        self._done = threading.Event()
        self._data: bytes | bytearray = b""
        self._error: ReadError | None = None

    def fetch(self) -> None:
        """Done by a thread of the source, which must not die with somebody waiting."""
        try:
            data = bytearray(self.end - self.begin)
            self._file._fetch_into(self.begin, memoryview(data))
            self._data = data
        except ReadError as error:
            self._error = error
        except Exception as error:  # a thread of ours must not die with somebody waiting
            self._error = ReadError(f"{self._file._path}: could not be read ({type(error).__name__})")
        finally:
            self._done.set()

    def abandon(self) -> None:
        """The source was closed."""
        self._error = ReadError(f"{self._file._path}: was not read: the audit has ended")
        self._done.set()

    def wait(self) -> memoryview:
        """The bytes, when they are there; raises ReadError where they cannot be had."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return memoryview(self._data)
