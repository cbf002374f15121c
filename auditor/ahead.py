"""Reads a source's headers in a second process while this one still imports what judging needs.

Importing the models takes as long as reading 163 headers, and two processes do both at once. What comes back stands
in for the source: it has the headers already, and where the other process failed it reads them itself.
"""

import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from auditor import errors
from auditor.deferred import Agreed, Deferred
from auditor.entry import Entry
from auditor.sources.begin import INDEX, SUFFIX, begin, head
from auditor_schemas.defaults import LIMITS

if TYPE_CHECKING:
    from auditor.facts import Index, Shard
    from auditor.sources import File, Need, Source

# Kinds of frames: the listing, a file's start or why there is none, a header, an index that agrees with the headers,
# why there is nothing, the end.
_LISTED, _START, _HEADER, _INDEX, _FAILED, _END = b"l", b"f", b"h", b"i", b"x", b"e"
_PREFIX = 9  # a frame's kind and the lengths of its two parts, four bytes each
_RINGS = 4096
_PATIENT_S, _BRIEFLY_S = 0.05, 0.001
_PATIENCE_S = 5.0  # for a reading that was told to stop
_ASKED = 2  # headers that the parent has asked for and not yet parsed


def start(source: "Source") -> "Source":
    """Begin to read a source with default limits; what stands in for it, or itself where one process must do.

    The source is one that has read nothing yet: a thread of its own would not be in the other process.
    """
    if not hasattr(os, "memfd_create") or len(os.sched_getaffinity(0)) < 2:
        return source
    try:
        frames = os.memfd_create("auditor-headers")
        ours, theirs = socket.socketpair()
        child = os.fork()
    except OSError:
        return source
    if child == 0:
        code = 1
        try:
            ours.close()
            _Reader(source, frames, theirs).run()
            code = 0
        except BaseException:  # whatever it is, the parent reads for itself and meets it there
            code = 1
        finally:
            os._exit(code)
    theirs.close()
    return Ahead(source, child, frames, ours)


def fetch(source: "Source") -> threading.Thread:
    """Have a remote source fetch what a walk with default limits reads; the thread ends when all is asked for."""
    limits: Any = SimpleNamespace(**LIMITS)

    def run() -> None:
        try:
            begin(source, limits)
        except errors.AuditorError:
            pass  # the walk meets it again, where somebody listens

    thread = threading.Thread(target=run, name="auditor-begin", daemon=True)
    thread.start()
    return thread


class Ahead:
    """A source that another process is reading: the headers of its shards, and what else a remote one was asked for."""

    def __init__(self, source: "Source", child: int, frames: int, bell: socket.socket) -> None:
        self.revision = source.revision
        self._source = source
        self._child: int | None = child
        self._frames = frames
        self._position = 0
        self._bell = bell  # rung by the other process for each frame, by this one for each header it could parse
        self._outstanding = 0  # headers that were asked for as they are, to be parsed here
        self._listing: tuple[dict[str, Entry], str | None] | None = None
        self._found: dict[str, Entry] = {}
        self._starts: dict[str, _Start] = {}
        self._headers: dict[str, Shard] = {}
        self._index: Index | None = None
        self._arrived: deque[str] = deque()
        self._error: errors.AuditorError | None = None
        self._whole = False
        self._closed = False
        self._alone = False  # the other process failed, and this one reads by itself
        # Interrupted while it imports, this process would end with nothing to show for what was read.
        self._stopped: float | None = None
        self._handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}

    # --- the source ---

    @property
    def uri(self) -> str:
        """As the source's."""
        return self._source.uri

    @property
    def identity(self) -> str:
        """As the source's."""
        return self._source.identity

    @property
    def listed(self) -> bool:
        """As the source's."""
        return self._source.listed

    @property
    def remote(self) -> bool:
        """As the source's."""
        return self._source.remote

    def entries(self, limit: int) -> tuple[dict[str, Entry], str | None]:
        """The listing: a remote one from the other process."""
        listing = self._remote_listing()
        return listing if listing is not None else self._source.entries(limit)

    def entry(self, path: str) -> Entry:
        """One file, from the listing or as the other process found it."""
        listing = self._remote_listing()
        if listing is not None:
            return listing[0].get(path) or Entry("absent")
        if self.remote and self._await(lambda: path in self._found):
            return self._found[path]
        return self._source.entry(path)

    def holds(self, path: Path) -> bool:
        """As the source's."""
        return self._source.holds(path)

    def stamp(self, path: str) -> str | None:
        """As the source's."""
        return self._source.stamp(path)

    def ahead(self, paths: Sequence[str], need: "Need", first: int = 0) -> None:
        """The other process has begun already."""
        if self._alone:
            self._source.ahead(paths, need, first)

    def warm(self, count: int) -> None:
        """See ahead."""
        if self._alone:
            self._source.warm(count)

    def arriving(self, until: str | None) -> Iterator[str]:
        """Files as they come from the other process: all, or until `until` has come, of a local one its index."""

        def there() -> bool:
            return bool(self._arrived) or until in self._found

        while self._await(there, asking=self.remote) and self._arrived:
            path = self._arrived.popleft()
            if path != until:
                yield path
        if self._alone:
            yield from self._source.arriving(until)

    def header(self, path: str) -> "Shard | None":
        """A shard's header, parsed by the other process or, where that passed it on, by this one."""
        if not self._await(lambda: path in self._headers or path in self._starts):
            return None
        if path not in self._headers:
            from auditor.walk import read_shard

            limits: Any = SimpleNamespace(**LIMITS)
            self._headers[path] = read_shard(self, path, self._found[path], limits)
        return self._headers[path]

    def index(self) -> "Index | None":
        """A local index, when it has been found to agree with the headers; None where it is to be read here."""
        if not self.remote and self._await(lambda: self._index is not None):
            return self._index
        return None

    def open(self, path: str) -> "File":
        """A file with its start at hand where the other process has read that; any other as the source opens it."""
        start = self._starts.get(path)
        if start is None and self.remote and self._await(lambda: path in self._starts):
            start = self._starts[path]
        if start is None:
            return self._source.open(path)
        if start.error is not None:
            raise errors.ReadError(start.error)
        return _Started(self._source, path, start)

    def close(self) -> None:
        """End the other process if it still runs, and close the source."""
        if self._closed:
            return
        self._closed = True
        self._hand_back()
        if not self._ended() and self._child is not None:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
        os.close(self._frames)
        self._bell.close()
        self._source.close()

    def _remote_listing(self) -> tuple[dict[str, Entry], str | None] | None:
        if self.remote and self.listed:
            self._await(lambda: self._listing is not None)
            return self._listing
        return None

    # --- the other process ---

    def _await(self, there: Callable[[], bool], *, asking: bool = False) -> bool:
        """Wait until something has come; false where it will not. `asking`: this process could parse a header.

        Raises what the source raised in the other process, and KeyboardInterrupt for an interruption before the first
        wait, when all that came until then has been taken; from here on an interruption is anybody's again.
        """
        self._hand_back()
        while not self._alone:
            if there():
                return True
            ended = self._ended()
            self._take()
            if there():
                return True
            if self._error is not None:
                raise self._error
            if self._stopped is not None:
                if self._whole or ended or time.monotonic() > self._stopped + _PATIENCE_S:
                    raise KeyboardInterrupt
            elif self._whole:
                return False
            elif ended:
                self._alone = True
                if self.remote:
                    fetch(self._source).join()
                return False
            elif asking and self._outstanding < _ASKED:
                self._outstanding += 1
                _ring(self._bell)
            if select.select([self._bell], [], [], _PATIENT_S)[0] and not _heard(self._bell):
                time.sleep(_BRIEFLY_S)  # it ends
        return False

    def _take(self) -> None:
        """Take the frames that have come."""
        available = os.fstat(self._frames).st_size
        while self._position + _PREFIX <= available:
            prefix = os.pread(self._frames, _PREFIX, self._position)
            middle = self._position + _PREFIX + int.from_bytes(prefix[1:5], "little")
            end = middle + int.from_bytes(prefix[5:], "little")
            if end > available:
                break
            value = os.pread(self._frames, middle - self._position - _PREFIX, self._position + _PREFIX)
            behind = os.pread(self._frames, end - middle, middle) if end > middle else b""
            self._position = end
            self._taken(prefix[:1], value, behind)

    def _taken(self, kind: bytes, data: bytes, behind: bytes) -> None:
        from msgspec import msgpack

        if kind == _END:
            self._whole = True
        elif kind == _FAILED:
            name, text = msgpack.decode(data, type=tuple[str, str])
            self._error = getattr(errors, name)(text)
        elif kind == _LISTED:
            entries, unlisted, self.revision = msgpack.decode(
                data, type=tuple[dict[str, Entry], str | None, str | None]
            )
            self._listing = entries, unlisted
        elif kind == _START:
            path, entry, size, error = msgpack.decode(data, type=tuple[str, Entry, int, str | None])
            self._found[path] = entry
            self._starts[path] = _Start(size, error, behind)
            self._outstanding = max(0, self._outstanding - path.endswith(SUFFIX))
            self._arrived.append(path)
        elif kind == _INDEX:
            from auditor.facts import Index

            entry, index, paths = msgpack.decode(data, type=tuple[Entry, Index, list[str]])
            self._found[INDEX], self._index = entry, self._agreed(index, paths)
        else:
            entry, shard = self._header_of(data)
            self._found[shard.path] = entry
            self._headers[shard.path] = _clothed(shard)
            self._arrived.append(shard.path)

    @cached_property
    def _header_of(self) -> "Callable[[bytes], tuple[Entry, Shard]]":
        from msgspec import msgpack

        from auditor.facts import Shard

        return msgpack.Decoder(tuple[Entry, Shard]).decode

    def _agreed(self, index: "Index", paths: list[str]) -> "Index":
        """The index again, its entries made of the shards' names when somebody asks for them."""
        from msgspec import structs

        shards = [self._headers[path] for path in paths]

        def weight_map() -> dict[str, str]:
            return {name: shard.path for shard in shards for name in shard.tensors}

        files = {shard.path: len(shard.tensors) for shard in shards if shard.tensors}
        index = structs.replace(index, weight_map=Agreed(sum(files.values()), weight_map))
        index.__dict__["files"] = files
        return index

    def _stop(self, *_: object) -> None:
        """Pass an interruption on at once, the first alone: a second would cost what the other process has read."""
        if self._stopped is None and self._child is not None:
            try:
                os.kill(self._child, signal.SIGINT)
            except ProcessLookupError:  # it has just ended by itself
                pass
        self._stopped = self._stopped or time.monotonic()

    def _hand_back(self) -> None:
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)

    def _ended(self) -> bool:
        if self._child is not None and os.waitpid(self._child, os.WNOHANG)[0] != 0:
            self._child = None
        return self._child is None


class _Start(NamedTuple):
    """What the other process has of a file: the bytes it begins with, or why there are none."""

    size: int
    error: str | None
    data: bytes


class _Started:
    """An open file whose start is at hand; what lies behind it is read from the source."""

    window = 0

    def __init__(self, source: "Source", path: str, start: _Start) -> None:
        self._source = source
        self._path = path
        self._data = start.data
        self._file: File | None = None
        self.size = start.size

    def _whole(self) -> "File":
        if self._file is None:
            self._file = self._source.open(self._path)
            if self._file.size != self.size:
                raise errors.ReadError(
                    f"{self._path}: is {self._file.size:,} bytes now, was {self.size:,}: changed while it was read"
                )
        return self._file

    def read(self, begin: int, end: int) -> bytes:
        """As a file's."""
        return self._data[begin:end] if end <= len(self._data) else self._whole().read(begin, end)

    def read_into(self, begin: int, buffer: memoryview) -> None:
        """As a file's."""
        self._whole().read_into(begin, buffer)

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """As a file's."""
        self._whole().expect(ranges)

    def stamp(self) -> str | None:
        """As a file's."""
        return self._whole().stamp()

    def close(self) -> None:
        """As a file's."""
        if self._file is not None:
            self._file.close()


def _clothed(shard: "Shard") -> "Shard":
    """The shard as it was read; its tensors one by one are made when somebody asks for them."""
    from msgspec import structs

    tiling = shard.tiling
    return shard if tiling is None else structs.replace(shard, tensors=Deferred(len(tiling), tiling.tensors))


class _Reader:
    """The other process: reads, and writes each result as a frame as soon as it is there."""

    def __init__(self, source: "Source", frames: int, bell: socket.socket) -> None:
        self._source = source
        self._frames = frames
        self._bell = bell
        self._bell.setblocking(False)
        self._limits: Any = SimpleNamespace(**LIMITS)
        self._read_shard: Any = None
        self._walk: Any = None

    def run(self) -> None:
        """Read until the end, or until an interruption."""
        begun = fetch(self._source) if self._source.remote else None
        from auditor.walk import read_shard, walk

        self._read_shard, self._walk = read_shard, walk
        try:
            if begun is None:
                self._read_folder()
            else:
                begun.join()
                self._read_remote()
        except KeyboardInterrupt:
            return
        except errors.AuditorError as error:
            self._send(_FAILED, (type(error).__name__, str(error)))
            return
        self._send(_END, None)
        self._source.close()

    def _read_folder(self) -> None:
        inventory = self._walk(self._source, self._limits, seen=self._send_header)
        if inventory.index is not None and inventory.complete and inventory.indexed:
            self._send_index(inventory.index, [shard.path for shard in inventory.parts])

    def _read_remote(self) -> None:
        if self._source.listed:
            entries, unlisted = self._source.entries(self._limits.files)
            self._send(_LISTED, (entries, unlisted, self._source.revision))
        held = 0
        for path in self._source.arriving(None):
            entry = self._source.entry(path)
            if not path.endswith(SUFFIX) or entry.kind != "file" or self._wanted():
                self._send_start(path, entry)
            elif held <= self._limits.tensors:
                shard: Shard = self._read_shard(self._source, path, entry, self._limits)
                self._send_header(shard, entry)
                held += len(shard.tensors)

    def _wanted(self) -> bool:
        """Whether the parent has time to parse a header by itself."""
        try:
            return bool(self._bell.recv(1))
        except OSError:  # not rung
            return False

    def _send_header(self, shard: "Shard", entry: Entry | None = None) -> None:
        from msgspec import structs

        bare = shard if shard.tiling is None else structs.replace(shard, tensors={})
        self._send(_HEADER, (entry or Entry("file", shard.size), bare))

    def _send_index(self, index: "Index", paths: list[str]) -> None:
        from msgspec import structs

        self._send(_INDEX, (self._source.entry(INDEX), structs.replace(index, weight_map={}), paths))

    def _send_start(self, path: str, entry: Entry) -> None:
        data, size, reason = b"", 0, None
        try:
            file = self._source.open(path)
            try:
                data, size = head(path, file, self._limits), file.size
            finally:
                file.close()
        except errors.ReadError as error:
            reason = str(error)
        self._send(_START, (path, entry, size, reason), data)

    def _send(self, kind: bytes, value: Any, behind: bytes = b"") -> None:
        from msgspec import msgpack

        data = msgpack.encode(value)
        prefix = kind + len(data).to_bytes(4, "little") + len(behind).to_bytes(4, "little")
        for part in (prefix + data, behind):
            left = memoryview(part)
            while left:
                left = left[os.write(self._frames, left) :]
        _ring(self._bell)


def _heard(bell: socket.socket) -> bool:
    """Take the rings that have come; false where the other end is closed."""
    try:
        return bool(bell.recv(_RINGS))
    except OSError:  # closed with rings of ours unheard
        return False


def _ring(bell: socket.socket) -> None:
    try:
        bell.send(b".")
    except OSError:  # rung often enough, or nobody is there to hear it
        pass
