"""Reads a source's headers in a second process while this one still imports what judging needs.

Importing the models takes as long as reading 163 headers, and two processes do both at once. What comes back stands
in for the source: it has the headers already, and where the other process failed it reads them itself.
"""

import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from auditor import errors
from auditor.deferred import Agreed, ByFile, Deferred
from auditor.entry import Entry
from auditor.frames import ANSWER, END, FAILED, INDEXED, LISTED, PLACED, START, Frames, ask, heard, ring
from auditor.reader import More, Reader, fetch
from auditor.sources.begin import INDEX, SUFFIX
from auditor.sources.started import Start, Started
from auditor_schemas.defaults import LIMITS

if TYPE_CHECKING:
    from pathlib import Path

    from auditor.facts import Index, Shard
    from auditor.sources import File, Need, Source

_PATIENT_S, _BRIEFLY_S = 0.05, 0.001
_PATIENCE_S = 5.0  # for a reading that was told to stop
_ASKED = 4  # headers that the parent has asked for and not yet parsed


def start(source: "Source", more: More | None = None) -> "Source":
    """Begin to read a source with default limits; what stands in for it, or itself where one process must do.

    The source is one that has read nothing yet: a thread of its own would not be in the other process. `more` is what
    the other process then makes itself ready for, to be asked for by `Ahead.ask`; of a folder alone.
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
            Reader(source, frames, theirs, more).run()
            code = 0
        except BaseException:  # whatever it is, the parent reads for itself and meets it there
            code = 1
        finally:
            os._exit(code)
    theirs.close()
    return Ahead(source, child, frames, ours, more=more is not None and not source.remote)


class Ahead:
    """A source that another process is reading: the headers of its shards, and what else a remote one was asked for."""

    def __init__(self, source: "Source", child: int, frames: int, bell: socket.socket, *, more: bool) -> None:
        self.revision = source.revision
        self._source = source
        self._child: int | None = child
        self._frames = Frames(frames)
        self._bell = bell  # rung by the other process for each frame, by this one for each header it could parse
        self._outstanding = 0  # headers that were asked for as they are, to be parsed here
        self._listing: tuple[dict[str, Entry], str | None] | None = None
        self._found: dict[str, Entry] = {}
        self._starts: dict[str, Start] = {}
        self._headers: dict[str, Shard] = {}
        self._index: Index | None = None
        self._arrived: deque[str] = deque()
        self._error: errors.AuditorError | None = None
        self._whole = False
        self._more = more  # the other process waits for a question
        self._answer: bytes | None = None
        self._closed = False
        self._alone = False  # the other process failed, and this one reads by itself
        # Interrupted while it imports, this process would end with nothing to show for what was read.
        self._stopped: float | None = None
        self._interruptions = 0
        self._handlers: dict[int, Any] = {}
        self._take_interruptions()

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

    def holds(self, path: "Path") -> bool:
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
        """The index, a local one when it has been found to agree with the headers; None where it is to be read here."""
        self._await(lambda: self._index is not None or INDEX in self._starts)
        return self._index

    def open(self, path: str) -> "File":
        """A file with its start at hand where the other process has read that; any other as the source opens it."""
        start = self._starts.get(path)
        if start is None and self.remote and self._await(lambda: path in self._starts):
            start = self._starts[path]
        if start is None:
            return self._source.open(path)
        if start.error is not None:
            raise errors.ReadError(start.error)
        return Started(self._source, path, start)

    def close(self) -> None:
        """End the other process if it has not told all and ended by itself, and close the source."""
        if self._closed:
            return
        self._closed = True
        self._hand_back()
        if (not self._whole or self._more) and not self._ended() and self._child is not None:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
        self._frames.close()
        self._bell.close()
        self._source.close()

    # --- what else the other process does ---

    def ask(self, question: bytes) -> bytes | None:
        """Have the other process do what it was made ready for; None where it does not, or ended instead.

        Raises what it raised. What interrupts this process interrupts that one, and its answer is still waited for:
        KeyboardInterrupt comes where there is none, or at a second interruption.
        """
        if not self._more or self._alone:
            return None
        self._take_interruptions()
        try:
            ask(self._bell, question)
            while self._answer is None and self._error is None and self._interruptions < 2:
                ended = self._ended()
                self._take()
                if self._answer is None and ended:
                    break
                self._listen()
        finally:
            self._hand_back()
        self._more = self._answer is None
        if self._error is not None:
            raise self._error
        if self._answer is None and self._interruptions:
            raise KeyboardInterrupt
        return self._answer

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
                ring(self._bell)
            self._listen()
        return False

    def _listen(self) -> None:
        """Wait for the other process, briefly."""
        if select.select([self._bell], [], [], _PATIENT_S)[0] and not heard(self._bell):
            time.sleep(_BRIEFLY_S)  # it ends

    def _take(self) -> None:
        """Take the frames that have come."""
        for frame in self._frames.come():
            self._taken(*frame)

    def _taken(self, kind: bytes, data: bytes, behind: bytes) -> None:
        from msgspec import msgpack

        if kind == END:
            self._whole = True
        elif kind == ANSWER:
            self._answer = behind
        elif kind == FAILED:
            name, text = msgpack.decode(data, type=tuple[str, str])
            self._error = getattr(errors, name)(text)
        elif kind == LISTED:
            entries, unlisted, self.revision = msgpack.decode(
                data, type=tuple[dict[str, Entry], str | None, str | None]
            )
            self._listing = entries, unlisted
        elif kind == START:
            path, entry, size, error = msgpack.decode(data, type=tuple[str, Entry, int, str | None])
            self._found[path] = entry
            self._starts[path] = Start(size, error, behind)
            self._outstanding = max(0, self._outstanding - path.endswith(SUFFIX))
            self._arrived.append(path)
        elif kind == INDEXED:
            from auditor.facts import Index

            entry, index, files, order = msgpack.decode(data, type=tuple[Entry, Index, dict[str, int], bytes])
            self._found[INDEX], self._index = entry, _by_file(index, files, order, behind)
        elif kind == PLACED:
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

    def _take_interruptions(self) -> None:
        self._hand_back()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._stop)

    def _stop(self, *_: object) -> None:
        """Pass an interruption on at once, the first alone: a second would cost what the other process has read."""
        if self._stopped is None and self._child is not None:
            try:
                os.kill(self._child, signal.SIGINT)
            except ProcessLookupError:  # it has just ended by itself
                pass
        self._stopped = self._stopped or time.monotonic()
        self._interruptions += 1

    def _hand_back(self) -> None:
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)

    def _ended(self) -> bool:
        if self._child is not None and os.waitpid(self._child, os.WNOHANG)[0] != 0:
            self._child = None
        return self._child is None


def _clothed(shard: "Shard") -> "Shard":
    """The shard as it was read; its tensors one by one are made when somebody asks for them."""
    from msgspec import structs

    tiling = shard.tiling
    return shard if tiling is None else structs.replace(shard, tensors=Deferred(len(tiling), tiling.tensors))


def _by_file(index: "Index", files: dict[str, int], order: bytes, held: bytes) -> "Index":
    """The index again, the names of a file read when somebody asks for them."""
    from msgspec import Raw, msgpack, structs

    names = dict(zip(files, msgpack.decode(held, type=list[Raw]), strict=True))
    read = msgpack.Decoder(list[str]).decode
    return structs.replace(index, weight_map=ByFile(files, lambda file: read(names[file]), order))
