"""Walks a checkpoint in a second process while this one still imports what judging needs.

Importing the models takes as long as reading 163 headers, and two processes do both at once. What comes
back is what `read_config` and `walk` give; where a second process is no help there is none.
"""

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from auditor import errors
from auditor.deferred import Deferred
from auditor.entry import Entry
from auditor.sources.begin import begin
from auditor_schemas.defaults import LIMITS

if TYPE_CHECKING:
    from auditor.facts import ConfigFile, Index, Inventory, Shard
    from auditor.sources import Source

_CONFIG, _SHARD, _END, _FAILED = b"c", b"s", b"e", b"f"
_PREFIX = 5  # a frame's kind and its length in four bytes
_POLL_S = 0.001
_SWITCH_S = 0.0005  # ten times as often as usual: many threads wait for bytes while one parses
_PATIENCE_S = 5.0  # for a walk that was told to stop


def start(source: "Source") -> "Ahead | None":
    """Begin to walk a source with default limits; None where only one process makes sense.

    The source is one that has read nothing yet: a thread of its own would not be in the other process.
    """
    if not hasattr(os, "memfd_create") or len(os.sched_getaffinity(0)) < 2:
        return None
    try:
        descriptor = os.memfd_create("auditor-inventory")
        child = os.fork()
    except OSError:
        return None
    if child == 0:
        code = 1
        try:
            _walk_into(descriptor, source)
            code = 0
        except BaseException:  # whatever it is, the parent walks for itself and meets it there
            code = 1
        finally:
            os._exit(code)
    return Ahead(source, child, descriptor)


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
    """A walk under way in another process."""

    def __init__(self, source: "Source", child: int, descriptor: int) -> None:
        self._source = source
        self._child: int | None = child
        self._descriptor = descriptor
        self._position = 0
        self._frames: deque[tuple[bytes, bytes]] = deque()
        # Interrupted while it imports, this process would end with nothing to show for what was read.
        self._stopped = False
        self._handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def config(self) -> "ConfigFile | None":
        """config.json as the other process read it; None where that failed. Raises what the source raised."""
        import msgspec

        from auditor.facts import ConfigFile

        while not self._frames:
            ended = self._ended()
            self._take()
            if not self._frames and self._stopped and self._source.remote:  # it would be asked for all over again
                self._hand_back()
                raise KeyboardInterrupt
            if not self._frames and (ended or self._stopped):
                return None
            time.sleep(_POLL_S if not self._frames else 0)
        kind, data = self._frames.popleft()
        if kind == _FAILED:
            name, text = msgspec.msgpack.decode(data, type=tuple[str, str])
            self._hand_back()
            raise getattr(errors, name)(text)
        config: ConfigFile = msgspec.msgpack.decode(data, type=ConfigFile)
        return config

    def inventory(self, seen: "Callable[[Shard], None]") -> "Inventory | None":
        """The inventory when it is whole, after `seen` got each shard as it came; None where the other process failed.

        An interruption since the start is passed on, and the inventory then holds what was read before.
        From here on an interruption is anybody's again.
        """
        try:
            inventory = self._awaited(seen)
        finally:
            self._hand_back()
        if inventory is not None and self._stopped and not inventory.cancelled:
            import msgspec

            return msgspec.structs.replace(inventory, cancelled=True)
        return inventory

    def _awaited(self, seen: "Callable[[Shard], None]") -> "Inventory | None":
        from auditor.facts import Inventory

        shards: list[Shard] = []
        deadline = None
        while True:
            if self._stopped and deadline is None:
                deadline = time.monotonic() + _PATIENCE_S
            ended = self._ended()
            self._take()
            end = self._decode(shards, seen)
            if end is not None:
                *told, self._source.revision = end
                return _whole(shards, *told)
            if ended and deadline is None:
                return None
            if deadline is not None and (ended or time.monotonic() > deadline):
                return Inventory(tuple(shards), unread=(f"cancelled after {len(shards)} shards",), cancelled=True)
            time.sleep(_POLL_S)

    def close(self) -> None:
        """End the other process if it still runs."""
        self._hand_back()
        if not self._ended() and self._child is not None:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
        os.close(self._descriptor)

    def _hand_back(self) -> None:
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)

    def _stop(self, *_: object) -> None:
        """Pass an interruption on at once, the first alone: a second would cost what the other process has read."""
        if not self._stopped and self._child is not None:
            try:
                os.kill(self._child, signal.SIGINT)
            except ProcessLookupError:  # it has just ended by itself
                pass
        self._stopped = True

    def _ended(self) -> bool:
        if self._child is not None and os.waitpid(self._child, os.WNOHANG)[0] != 0:
            self._child = None
        return self._child is None

    def _take(self) -> None:
        """Keep the frames that have come."""
        available = os.fstat(self._descriptor).st_size
        while self._position + _PREFIX <= available:
            prefix = os.pread(self._descriptor, _PREFIX, self._position)
            length = int.from_bytes(prefix[1:], "little")
            begin = self._position + _PREFIX
            if begin + length > available:
                break
            self._frames.append((prefix[:1], os.pread(self._descriptor, length, begin)))
            self._position = begin + length

    def _decode(self, shards: "list[Shard]", seen: "Callable[[Shard], None]") -> tuple[Any, ...] | None:
        """Decode the shards that have come; the end when it has."""
        import msgspec

        from auditor.facts import Shard

        while self._frames:
            kind, data = self._frames.popleft()
            if kind == _END:
                end: tuple[Any, ...] = msgspec.msgpack.decode(data, type=_end_type())
                return end
            shard = _clothed(msgspec.msgpack.decode(data, type=Shard))
            shards.append(shard)
            seen(shard)
        return None


def _bare(shard: "Shard") -> "Shard":
    """The shard without what its tiling says again."""
    import msgspec

    return shard if shard.tiling is None else msgspec.structs.replace(shard, tensors={})


def _clothed(shard: "Shard") -> "Shard":
    """The shard again; its tensors one by one are made when somebody asks for them."""
    import msgspec

    tiling = shard.tiling
    if tiling is None:
        return shard
    return msgspec.structs.replace(shard, tensors=Deferred(len(tiling), tiling.tensors))


def _end_type() -> Any:
    """The shards' order, strays marked, and the rest of the inventory; the revision of its source.

    Of an index that agrees with the shards entry by entry (`indexed`) the entries are left out.
    """
    from auditor.facts import Index

    return tuple[dict[str, bool], Index | None, bool, dict[str, Entry], tuple[str, ...], bool, str | None]


def _whole(
    read: "list[Shard]",
    order: dict[str, bool],
    index: "Index | None",
    indexed: bool,
    entries: dict[str, Entry],
    unread: tuple[str, ...],
    listed: bool,
) -> "Inventory":
    import msgspec

    from auditor.facts import Inventory

    known = {shard.path: shard for shard in read}
    shards = [
        msgspec.structs.replace(known[path], stray=True) if stray else known[path] for path, stray in order.items()
    ]
    if index is not None and indexed:
        # Index and shards agree entry by entry, so the shards' own names make the same map.
        parts = [shard for shard in shards if not shard.stray]

        def weight_map() -> dict[str, str]:
            return {name: shard.path for shard in parts for name in shard.tensors}

        files = {shard.path: len(shard.tensors) for shard in parts if shard.tensors}
        index = msgspec.structs.replace(index, weight_map=Deferred(sum(files.values()), weight_map))
        index.__dict__["files"] = files
    inventory = Inventory(tuple(shards), index, entries, unread, listed=listed)
    if indexed:
        inventory.__dict__["indexed"] = True
    return inventory


def _walk_into(descriptor: int, source: "Source") -> None:
    """The other process: walk, and write each shard as a frame as soon as it is read."""
    asking = fetch(source) if source.remote else None
    import msgspec

    from auditor.facts import Shard
    from auditor.walk import read_config, walk

    limits: Any = SimpleNamespace(**LIMITS)
    encode = msgspec.msgpack.Encoder().encode

    def send(kind: bytes, value: Any) -> None:
        data = encode(value)
        frame = memoryview(kind + len(data).to_bytes(4, "little") + data)
        while frame:
            frame = frame[os.write(descriptor, frame) :]

    def send_shard(shard: Shard) -> None:
        send(_SHARD, _bare(shard))

    if asking is not None:
        sys.setswitchinterval(_SWITCH_S)
        asking.join()
    try:
        send(_CONFIG, read_config(source, limits))
    except errors.AuditorError as error:
        send(_FAILED, (type(error).__name__, str(error)))
        return
    inventory = walk(source, limits, seen=send_shard)
    index, indexed = inventory.index, inventory.indexed
    if index is not None and indexed:
        index = msgspec.structs.replace(index, weight_map={})
    order = {shard.path: shard.stray for shard in inventory.shards}
    send(_END, (order, index, indexed, inventory.entries, inventory.unread, inventory.listed, source.revision))
    source.close()
