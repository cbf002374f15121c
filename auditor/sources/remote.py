"""What every remote source shares: starts of files fetched at once, ahead of who asks; content read in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from auditor.errors import ReadError, SourceError, Unread, UsageError, code_of
from auditor.sources.crew import Crew
from auditor.sources.entry import Entry
from auditor.sources.http.answer import same_etag
from auditor.sources.http.request import bare_etag
from auditor.sources.starts import Start, Starts
from auditor_schemas.defaults import LIMITS

if TYPE_CHECKING:
    from pathlib import Path

    from auditor.sources.cache import Cache
    from auditor.sources.http.answer import Answer
    from auditor.sources.http.request import Located
    from auditor.sources.http.transport import Transport
    from auditor.sources.protocol import Need

_BLOCK = 4 << 20  # the most content that one request asks for
_WINDOW = 12 << 20  # of content of one file, fetched before it is read
_EXPECTED = 128 << 20  # of content of all files together
_FETCHERS = 48  # requests for it under way at once


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
        self.location = location
        self.transport = transport
        self.cache = cache
        self._starts = Starts(self._fetch, self._known, cache=cache, location=location, listed=self.listed)
        self._lock = threading.Lock()
        self._closed = False
        self._crew = Crew("auditor-content", _FETCHERS)
        self._expected = 0
        self._list_lock = threading.Lock()
        self._listing: tuple[dict[str, Entry], Unread | None] | None = None
        self._unlistable: SourceError | None = None

    # --- what a kind of source answers ---

    def _locate(self, path: str, renew: bool) -> Located:  # called by position, by the transport
        """Where a file is, and what to send along; anew with `renew`. Raises ReadError."""
        raise NotImplementedError

    def _list(self, limit: int) -> tuple[dict[str, Entry], Unread | None]:
        """Every file by its path, at most `limit`, and why that is not all. Raises SourceError."""
        raise NotImplementedError

    # --- the protocol ---

    def entries(self, limit: int) -> tuple[dict[str, Entry], Unread | None]:
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

    def ahead(self, paths: Sequence[str], need: Need, first: int = 0) -> None:
        """Begin to fetch the starts of these files, as many at once as there may be connections."""
        self._starts.ahead(paths, need, first)

    def warm(self, count: int) -> None:
        """Begin to open connections, where it is known to whom before any file is asked for."""

    def arriving(self, until: str | None) -> Iterator[str]:
        """Files asked for ahead, as their starts come: all, or until that of `until` has come."""
        return self._starts.arriving(until)

    def open(self, path: str) -> RemoteFile:
        """The file with its start at hand; raises ReadError where that cannot be had."""
        start = self._starts.get(path)
        if start.error is not None:
            raise start.error
        file = RemoteFile(self, start)
        start.data = b""  # the file has it; one opened again later reads what it is asked for
        return file

    @property
    def versioned(self) -> bool:
        """Whether every start that came has an ETag or a Last-Modified with it."""
        return self._starts.versioned

    @property
    def identity(self) -> str:
        """The place and the revision."""
        return f"{self.location}@{self.revision or ''}"

    def holds(self, path: Path) -> bool:
        """No local path lies in a remote checkpoint."""
        del path
        return False

    def stamp(self, path: str) -> str | None:
        """What the store names the bytes of a file; every range is held to it as it is read."""
        known = self._known(path)
        if known is not None:  # the same whether a header comes from the cache or not, as an ETag of storage is not
            return _stamp(known.size, known.sha256 or known.etag)
        start = self._starts.find(path)
        return None if start is None else _stamp(start.size, start.etag)

    def close(self) -> None:
        """Stop what is under way; nothing is read afterwards."""
        with self._lock:
            self._closed = True
        self._starts.close()
        self.transport.close()
        if self.cache is not None:
            self.cache.trim()

    # --- listing ---

    def _files(self, limit: int | None) -> tuple[dict[str, Entry], Unread | None]:
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

    def _fetch(
        self,
        path: str,
        begin: int,
        end: int,
        *,
        etag: str | None = None,
        unless: str | None = None,
        into: memoryview | None = None,
        peek: Callable[[bytes], object] | None = None,
    ) -> Answer:
        """Bytes of a file through the transport, held to the identity that is known."""
        return self.transport.fetch(
            path,
            lambda renew: self._locate(path, renew),
            begin,
            end,
            etag=etag if etag is not None and not etag.startswith("W/") else None,  # weak ones name no bytes
            unless=unless,
            into=into,
            peek=peek,
        )


def _stamp(size: int, name: str | None) -> str | None:
    return None if name is None or name.startswith("W/") else f"{size}:{bare_etag(name)}"


class RemoteFile:
    """An open remote file. `size` is the whole file's, as the store said.

    What is expected is fetched in pieces by threads of the source, and handed over as it is read; what is not is
    asked for when it is read.
    """

    window = _WINDOW

    def __init__(self, source: Remote, start: Start) -> None:
        self._source = source
        self._path = start.path
        self._start = start.data
        self._etag = start.etag
        self._weak = start.etag is not None and start.etag.startswith("W/")  # no request can insist on it
        self._stamp = source.stamp(start.path)
        self.size = start.size
        self._expected: dict[int, _Piece] = {}  # by the first byte that has not been handed over

    def read(self, begin: int, end: int) -> bytes:
        """The bytes of the half-open range, those of the file's start without asking again."""
        if end <= len(self._start) or begin >= end:
            return bytes(self._start[begin:end])
        buffer = bytearray(end - begin)
        self.read_into(begin, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, begin: int, buffer: memoryview) -> None:
        """Fill the buffer, from the start and from what was expected as far as they go."""
        end, done = begin + len(buffer), 0
        if end > self.size:
            raise ReadError(
                f"{self._path}: ends at byte {self.size:,}, {len(buffer):,} more were asked for", code="changed"
            )
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
            self._source._crew.give(piece.fetch for piece in fresh)

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
            raise ReadError(f"{self._path}: {error}", code=error.code) from None
        if answer.size != self.size:
            told = f"is {answer.size:,} bytes now, was {self.size:,}: changed while it was read"
            raise ReadError(f"{self._path}: {told}", code="changed")
        if self._weak and answer.etag is not None and not same_etag(answer.etag, self._etag or ""):
            raise ReadError(f"{self._path}: changed while it was read", code="changed")
        if len(answer.data) != len(buffer):
            told = f"ended at byte {begin + len(answer.data):,} while it was read"
            raise ReadError(f"{self._path}: {told}", code="changed")


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
            if self.dropped:
                return
            if self._file._source._closed:
                raise ReadError(f"{self._file._path}: was not read: the audit has ended", code="cancelled")
            data = bytearray(self.end - self.begin)
            self._file._fetch_into(self.begin, memoryview(data))
            self._data = data
        except ReadError as error:
            self._error = error
        except Exception as error:  # a thread of ours must not die with somebody waiting
            told = f"could not be read ({type(error).__name__})"
            self._error = ReadError(f"{self._file._path}: {told}", code=code_of(error))
        finally:
            self._done.set()

    def wait(self) -> memoryview:
        """The bytes, when they are there; raises ReadError where they cannot be had."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return memoryview(self._data)


def needs(package: str, scheme: str) -> UsageError:
    """What to say where the package that a kind of source needs is not installed."""
    return UsageError(f"{scheme}:// needs {package}: pip install 'checkpoint-auditor[stores]'")
