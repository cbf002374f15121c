"""What every remote source shares: starts of files fetched at once, ahead of who asks; content read in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from auditor.errors import ReadError, SourceError
from auditor.facts import Entry
from auditor.sources.transport import CONNECTIONS, AbsentError, Answer, Located, Transport, UnchangedError
from auditor_schemas.defaults import LIMITS

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

    from auditor.sources import Need
    from auditor.sources.cache import Cache

START = 80 << 10  # the speculative first read: the header of nearly every shard of a release
_HELD = 64 << 20  # bytes fetched ahead that nobody has asked for yet
_BLOCK, _BLOCKS = 4 << 20, 6  # of content read in order: so large, so many under way for one file
_SCATTERED = 16  # ranges of one file that are read out of order, under way at once


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
        self._held = 0
        self._workers = 0
        self._closed = False
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
        with self._lock:
            start = self._starts.get(path)
        if start is not None and start.done.is_set() and start.error is None:
            return _stamp(start.size, start.etag)
        known = self._known(path)
        return None if known is None or known.kind == "absent" else _stamp(known.size, known.etag)

    def close(self) -> None:
        """Stop what is under way; nothing is read afterwards."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            self._lock.notify_all()
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


def _stamp(size: int, etag: str | None) -> str:
    return f"{size}:{etag or ''}"


class RemoteFile:
    """An open remote file. `size` is the whole file's, as the store said."""

    def __init__(self, source: Remote, start: _Start) -> None:
        self._source = source
        self._path = start.path
        self._start = start.data
        self._etag = start.etag
        self.size = start.size
        self._stream: _Stream | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._expected: dict[tuple[int, int], Future[bytes]] = {}

    def read(self, begin: int, end: int) -> bytes:
        """The bytes of the half-open range, those of the file's start without asking again."""
        expected = self._expected.pop((begin, end), None)
        if expected is not None:
            return expected.result()
        if end <= len(self._start):
            return self._start[begin:end]
        if begin < len(self._start):
            return self._start[begin:] + self._exactly(len(self._start), end)
        return self._exactly(begin, end)

    def read_into(self, begin: int, buffer: memoryview) -> None:
        """Fill the buffer; from the second call in order on, blocks are fetched ahead."""
        expected = self._expected.pop((begin, begin + len(buffer)), None)
        if expected is not None:
            buffer[:] = expected.result()
            return
        if self._stream is None or self._stream.position != begin:
            if self._stream is not None:
                self._stream.close()
            self._stream = _Stream(self, begin)
        self._stream.read_into(buffer)

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Fetch small ranges that are far apart, several at once; what is read in order needs no hint."""
        held = sum(end - begin for begin, end in self._expected)
        for begin, end in ranges:
            held += end - begin
            if end - begin > _BLOCK or held > _HELD or end <= len(self._start) or (begin, end) in self._expected:
                continue
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor  # content alone pays for it

                self._pool = ThreadPoolExecutor(_SCATTERED, "auditor-expected")
            self._expected[begin, end] = self._pool.submit(self._exactly, begin, end)

    def stamp(self) -> str:
        """Size and the store's own name for the bytes, to which every range is held."""
        return _stamp(self.size, self._etag)

    def close(self) -> None:
        """Stop what is read ahead."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._expected.clear()
        if self._stream is not None:
            self._stream.close()
        self._start = b""

    def _exactly(self, begin: int, end: int) -> bytes:
        if begin >= end:
            return b""
        answer = self._source._fetch(self._path, begin, end, etag=self._etag)
        self._check(answer, begin, end)
        return bytes(answer.data)

    def _check(self, answer: Answer, begin: int, end: int) -> None:
        if answer.size != self.size:
            raise ReadError(f"{self._path}: is {answer.size:,} bytes now, was {self.size:,}: changed while it was read")
        if len(answer.data) != end - begin:
            raise ReadError(f"{self._path}: ended at byte {begin + len(answer.data):,} while it was read")

    def _fetch_into(self, begin: int, buffer: memoryview) -> None:
        answer = self._source._fetch(self._path, begin, begin + len(buffer), etag=self._etag, into=buffer)
        self._check(answer, begin, begin + len(buffer))


class _Block:
    """A block under way into a buffer of its own."""

    def __init__(self, file: RemoteFile, begin: int, buffer: memoryview) -> None:
        self.begin = begin
        self.buffer = buffer
        self.error: ReadError | None = None
        self._file = file
        self._thread = threading.Thread(target=self._run, name="auditor-block", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._file._fetch_into(self.begin, self.buffer)
        except ReadError as error:
            self.error = error
        except Exception as error:  # a thread of ours must not die with somebody waiting
            self.error = ReadError(f"{self._file._path}: could not be read ({type(error).__name__})")

    def wait(self) -> memoryview:
        self._thread.join()
        if self.error is not None:
            raise self.error
        return self.buffer


class _Stream:
    """A file's bytes from one offset on, in order: the first call reads what it needs, later ones read ahead."""

    def __init__(self, file: RemoteFile, begin: int) -> None:
        self.position = begin
        self._file = file
        self._calls = 0
        self._blocks: deque[_Block] = deque()
        self._spare: list[bytearray] = []

    def read_into(self, buffer: memoryview) -> None:
        if self.position + len(buffer) > self._file.size:
            raise ReadError(
                f"{self._file._path}: ends at byte {self._file.size:,}, {len(buffer):,} more were asked for"
            )
        self._calls += 1
        # The first blocks go straight into the buffer, so that one who reads once pays for nothing else.
        end = self.position + len(buffer)
        self._ahead(end if self._calls == 1 else self._file.size)
        done = 0
        while done < len(buffer):
            block = self._blocks[0]
            view = block.wait()
            offset = self.position - block.begin
            count = min(len(view) - offset, len(buffer) - done)
            buffer[done : done + count] = view[offset : offset + count]
            done += count
            self.position += count
            if self.position == block.begin + len(view):
                self._blocks.popleft()
                self._spare.append(view.obj)  # type: ignore[arg-type]  # a bytearray of ours
                self._ahead(end if self._calls == 1 else self._file.size)

    def _ahead(self, end: int) -> None:
        begin = self._blocks[-1].begin + len(self._blocks[-1].buffer) if self._blocks else self.position
        while begin < end and len(self._blocks) < _BLOCKS:
            length = min(_BLOCK, end - begin)
            held = self._spare.pop() if self._spare else bytearray(_BLOCK)
            self._blocks.append(_Block(self._file, begin, memoryview(held)[:length]))
            begin += length

    def close(self) -> None:
        self._blocks.clear()
        self._spare.clear()
