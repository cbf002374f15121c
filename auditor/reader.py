"""The process that reads ahead: what it reads it writes as frames into a file in memory, and rings for each.

Another process's, so that neither waits for the other's imports or locks.
"""

import socket
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from auditor import errors
from auditor.entry import Entry
from auditor.frames import ANSWER, END, FAILED, HEADER, INDEXED, LISTED, PLACED, START, asked, send
from auditor.sources.begin import INDEX, SUFFIX, begin, head
from auditor_schemas.defaults import LIMITS

if TYPE_CHECKING:
    from auditor.facts import Index, Inventory, Shard
    from auditor.sources import Source

# What a process does beside reading ahead: made ready with what was read, it answers one question.
Answer = Callable[[bytes], bytes]
More = Callable[["Source", "Inventory"], Answer]

_HEAD_START_S = 0.02  # for what asks, before imports take the interpreter
_LARGE = 23 << 20  # bytes: a release's index as it comes, and what is made of it
_SMALL, _SMALLS, _PINNED = 400, 30_000, 2000  # bytes of each, how many, and every how many-th stays


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


class Reader:
    """The other process: reads, and writes each result as a frame as soon as it is there."""

    def __init__(self, source: "Source", frames: int, bell: socket.socket, more: More | None = None) -> None:
        self._source = source
        self._more = more
        self._frames = frames
        self._bell = bell
        self._bell.setblocking(False)
        self._limits: Any = SimpleNamespace(**LIMITS)
        self._read_shard: Any = None
        self._walk: Any = None
        self._spare: Sequence[bytes] = ()
        self._kept: Index | None = None  # freeing it would be time lost: its memory goes with the process

    def run(self) -> None:
        """Read until the end, or until an interruption."""
        begun = fetch(self._source) if self._source.remote else None
        if begun is not None:
            begun.join(_HEAD_START_S)
        from auditor.walk import read_shard, walk

        self._read_shard, self._walk = read_shard, walk
        try:
            inventory = None
            if begun is None:
                inventory = self._read_folder()
            else:
                begun.join()
                self._spare = () if self._source.listed else _touched()
                self._read_remote()
            self._send(END, None)
            if self._more is not None and inventory is not None and not inventory.cancelled:
                self._answer(self._more(self._source, inventory))
        except KeyboardInterrupt:
            return
        except errors.AuditorError as error:
            self._send(FAILED, (type(error).__name__, str(error)))

    def _answer(self, answer: Answer) -> None:
        question = asked(self._bell)
        if question is not None:
            self._send(ANSWER, None, answer(question))

    def _read_folder(self) -> "Inventory":
        inventory: Inventory = self._walk(self._source, self._limits, seen=self._send_header)
        if inventory.index is not None and inventory.complete and inventory.indexed:
            self._send_index(inventory.index, [shard.path for shard in inventory.parts])
        return inventory

    def _read_remote(self) -> None:
        if self._source.listed:
            entries, unlisted = self._source.entries(self._limits.files)
            self._send(LISTED, (entries, unlisted, self._source.revision))
        held = 0
        for path in self._source.arriving(None):
            entry = self._source.entry(path)
            if not path.endswith(SUFFIX) or entry.kind != "file" or self._wanted():
                self._send_start(path, entry)
            else:
                shard: Shard = self._read_shard(self._source, path, entry, self._limits)
                self._send_header(shard, entry)
                held += len(shard.tensors)
            if held > self._limits.tensors:
                return  # what is not taken would keep more from coming

    def _wanted(self) -> bool:
        """Whether the parent has time to parse a header by itself."""
        try:
            return bool(self._bell.recv(1))
        except OSError:  # not rung
            return False

    def _send_header(self, shard: "Shard", entry: Entry | None = None) -> None:
        from msgspec import structs

        bare = shard if shard.tiling is None else structs.replace(shard, tensors={})
        self._send(HEADER, (entry or Entry("file", shard.size), bare))

    def _send_index(self, index: "Index", paths: list[str]) -> None:
        from msgspec import structs

        self._send(PLACED, (self._source.entry(INDEX), structs.replace(index, weight_map={}), paths))

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
        # Where all names are listed the shards come as soon as the index does, and this process has no time for it.
        by_file = path == INDEX and not self._source.listed and len(data) == size
        if not (by_file and self._send_by_file(entry, data)):
            self._send(START, (path, entry, size, reason), data)

    def _send_by_file(self, entry: Entry, data: bytes) -> bool:
        """Send an index with its names by file, which the other end needs one by one; false where it cannot be."""
        from array import array

        from msgspec import msgpack, structs

        from auditor.walk import proven_index

        index = self._kept = proven_index(data, self._limits) if data else None
        if index is None:
            return False
        numbers = {file: number for number, file in enumerate(index.by_file)}
        order = array("I", map(numbers.__getitem__, index.weight_map.values())).tobytes()
        counts = {file: len(names) for file, names in index.by_file.items()}
        bare = structs.replace(index, weight_map={})
        self._send(INDEXED, (entry, bare, counts, order), msgpack.encode(list(index.by_file.values())))
        return True

    def _send(self, kind: bytes, value: Any, behind: bytes = b"") -> None:
        send(self._frames, self._bell, kind, value, behind)


def _touched() -> Sequence[bytes]:
    """Touch memory that will be used, while there is nothing to do but wait: a new page costs more than its use.

    Both allocators keep it, the one for small objects because of those that stay, one in each of its arenas.
    """
    b"\1" * _LARGE
    return [bytes(_SMALL) for _ in range(_SMALLS)][::_PINNED]
