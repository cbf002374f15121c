"""Reads the index, every shard's header and config.json into facts; never tensor data, and never a guess.

Damage becomes a fault in the facts; only what could not be read for another reason stays `unread`.
"""

from __future__ import annotations  # the models are named here, not imported

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec

from auditor.errors import ForbiddenError, ReadError, Unread, code_of
from auditor.format.disguise import APPLE_DOUBLE, disguise
from auditor.format.entries import Fault, Index, Shard
from auditor.format.files import CONFIG, HEAD, INDEX, SINGLE, SUFFIX
from auditor.format.headers import parse_header
from auditor.format.index import parse_index
from auditor.inventory.deferred import Deferred
from auditor.inventory.facts import ConfigFile, Inventory
from auditor.inventory.fileset import impostors, shard_paths
from auditor.sources import File, Source
from auditor.sources.entry import Entry
from auditor.text import UNSHOWN, quoted

if TYPE_CHECKING:
    from auditor_schemas.codes import Code
    from auditor_schemas.policy import Limits

Progress = Callable[[int, int], None]


def read_config(source: Source, limits: Limits, path: str = CONFIG) -> ConfigFile:
    """The bytes of config.json, or of another file of its kind, at most the limit's."""
    state, data, reason, code = _whole(source, path, limits.config_bytes, "config_bytes")
    if state != "read":
        return ConfigFile(state, reason=reason, code=code)
    outside = source.entry(path).link == "outside"
    return ConfigFile("read", data, hashlib.sha256(data).hexdigest(), outside=outside)


def read_index(source: Source, limits: Limits) -> Index | None:
    """The index alone, or None where there is none."""
    return None if source.entry(INDEX).kind == "absent" else _read_index(source, limits, ())


def walk(
    source: Source,
    limits: Limits,
    progress: Progress | None = None,
    *,
    seen: Callable[[Shard], None] | None = None,
) -> Inventory:
    """Every header of the checkpoint; `seen` gets each shard as soon as it is read, whether it is a stray or not.

    An interruption leaves the rest unread and the inventory usable.
    """
    early = _Early(source, limits, seen)
    try:
        early.read(until=INDEX)
        entries, unlisted = source.entries(limits.files) if source.listed else (_ask(source), None)
        index = None
        if INDEX in entries:
            files = [*entries, *(shard.path for shard in early.shards)]
            index = _read_index(source, limits, files)
        replaced = impostors(source, entries)
    except KeyboardInterrupt:
        reason = f"cancelled after {len(early.shards)} shards, before the index was read"
        return Inventory(early.shards, unread=(reason,), codes=("cancelled",), cancelled=True, listed=source.listed)
    unread = [] if unlisted is None else [unlisted]
    if index is not None and index.state == "unread":
        unread.append(Unread(f"{INDEX}: {index.reason}", index.code or "limit"))
    early.placed_by(index)
    paths, strays = shard_paths(entries, index)
    if len(paths) > limits.shards:
        beyond = f"{len(paths) - limits.shards:,} shards beyond the limit of {limits.shards:,} (shards)"
        unread.append(Unread(beyond, "limit"))
        paths = paths[: limits.shards]
    shards: list[Shard] = []
    taken = _Taken(limits)
    cancelled = False
    try:
        early.read(progress=None if progress is None else partial(_some, progress, len(paths)))
        for position, path in enumerate(paths):
            entry = entries.get(path)
            if entry is None:
                entry = entries[path] = source.entry(path)
            if progress is not None:
                progress(position, len(paths))
            if entry.kind == "file":
                shards.append(early.shard(path, entry))
                over = taken.beyond(shards[-1])
                if over is not None:
                    unread.append(Unread(f"{len(shards)} of {len(paths)} shards have {over}", "limit"))
                    break
        if progress is not None:
            progress(len(paths), len(paths))
    except KeyboardInterrupt:
        cancelled = True
        shards += early.shards
        unread.append(Unread(f"cancelled after {len(shards)} of {len(paths)} shards", "cancelled"))
    shards = [msgspec.structs.replace(shard, stray=True) if shard.path in strays else shard for shard in shards]
    unread.extend(
        Unread(f"{shard.path}: {shard.reason}", shard.code or "limit")
        for shard in shards
        if shard.state == "unread" and not shard.stray
    )
    inventory = Inventory(
        shards=tuple(shards),
        index=index,
        entries=entries,
        unread=tuple(map(str, unread)),
        cancelled=cancelled,
        listed=source.listed,
        impostors=replaced,
        codes=tuple(each.code for each in unread),
    )
    if index is not None:
        inventory.__dict__["indexed"] = early.is_placed(inventory)
    return inventory


class _Early:
    """Shards that are read in the order in which they come, those of a remote source while its index is under way."""

    def __init__(self, source: Source, limits: Limits, seen: Callable[[Shard], None] | None) -> None:
        self._source = source
        self._limits = limits
        self._seen = seen
        self._read: dict[str, Shard] = {}
        self._taken = _Taken(limits)
        self._full = False
        self._index: Index | None = None
        self._placed: dict[str, bool] = {}

    def placed_by(self, index: Index | None) -> None:
        """From here on the index is known, and each shard is held against it as it is read."""
        self._index = index
        for shard in self._read.values():
            self._place(shard)

    def _place(self, shard: Shard) -> None:
        if self._index is not None:
            self._placed[shard.path] = self._index.holds(shard)

    def is_placed(self, inventory: Inventory) -> bool:
        """Whether index and shards agree both ways, entry by entry."""
        if inventory.index is None or len(inventory.index.weight_map) != inventory.stored:
            return False
        return all(self._placed[shard.path] for shard in inventory.parts)

    def read(self, until: str | None = None, progress: Callable[[int], None] | None = None) -> None:
        """Read all that comes, or what comes before `until`."""
        for path in self._source.arriving(until):
            if self._full:
                return  # what is not taken would keep more from coming
            if not path.endswith(SUFFIX) or path in self._read:
                continue
            entry = self._source.entry(path)
            if entry.kind == "file":
                self._read[path] = self.shard(path, entry)
                self._full = self._taken.beyond(self._read[path]) is not None
            if progress is not None:
                progress(len(self._read))

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Those that have been read and not been asked for."""
        return tuple(self._read[path] for path in sorted(self._read))

    def shard(self, path: str, entry: Entry) -> Shard:
        """A shard, read now unless it has been."""
        shard = self._read.pop(path, None)
        if shard is None:
            shard = read_shard(self._source, path, entry, self._limits)
            self._place(shard)
            if self._seen is not None:
                self._seen(shard)
        return shard


class _Taken:
    """What the headers of the shards read so far hold together, against the limits on all of them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tensors = self._header_bytes = self._name_bytes = self._values = 0
        self._shards: list[Shard] | None = []  # whose names have not been added up: their headers are short enough

    def beyond(self, shard: Shard) -> str | None:
        """Add a shard; the limit that all of them exceed, if they do."""
        limits = self._limits
        self._tensors += max(shard.entries, len(shard.tensors))
        self._header_bytes += shard.header_bytes
        self._values += shard.values
        self._add_names(shard)
        for there, limit, what, name in (
            (self._tensors, limits.tensors, "tensors", "tensors"),
            (self._header_bytes, limits.header_bytes_in_all, "bytes of headers", "header_bytes_in_all"),
            (self._name_bytes, limits.name_bytes_in_all, "bytes of tensor names", "name_bytes_in_all"),
            (self._values, limits.json_values_in_all, "values in headers of unusual form", "json_values_in_all"),
        ):
            if there > limit:
                return f"{there:,} {what}, limit {limit:,} ({name})"
        return None

    def _add_names(self, shard: Shard) -> None:
        """Names are part of their headers, so they are added up only where these are longer than names may be."""
        if self._shards is not None:
            self._shards.append(shard)
            if self._header_bytes <= self._limits.name_bytes_in_all:
                return
            for each in self._shards[:-1]:
                self._name_bytes += _name_bytes(each)
            self._shards = None
        self._name_bytes += _name_bytes(shard)


def _name_bytes(shard: Shard) -> int:
    return sum(len("".join(names).encode()) for names in shard.kinds.values())


def _some(progress: Progress, total: int, done: int) -> None:
    progress(min(done, total), total)


def _ask(source: Source) -> dict[str, Entry]:
    """What there is of a source that cannot list: the index, and the single file that a loader takes before it."""
    asked = {path: source.entry(path) for path in (INDEX, SINGLE)}
    return {path: entry for path, entry in asked.items() if entry.kind != "absent"}


def _whole(
    source: Source, path: str, limit: int, limit_name: str
) -> tuple[Literal["read", "absent", "damaged", "unread"], bytes, str | None, Code | None]:
    """A file's bytes, or why there are none, and the code of what was not read."""
    entry = source.entry(path)
    if entry.kind in ("absent", "broken-link"):
        return "absent", b"", None, None
    if entry.kind != "file":
        return "damaged", b"", f"is a {entry.kind}, not a regular file", None
    try:
        file = source.open(path)
        try:
            if file.size > limit:
                return "unread", b"", f"is {file.size:,} bytes, limit {limit:,} ({limit_name})", "limit"
            return "read", file.read(0, file.size), None, None
        finally:
            file.close()
    except ForbiddenError as error:
        return "damaged", b"", str(error).removeprefix(f"{path}: "), None
    except ReadError as error:
        return "unread", b"", str(error).removeprefix(f"{path}: "), code_of(error)


def _read_index(source: Source, limits: Limits, files: Iterable[str]) -> Index:
    state, data, reason, code = _whole(source, INDEX, limits.index_bytes, "index_bytes")
    if state == "read":
        index = parse_index(data, limits, files)
        if not index.faults or source.entry(INDEX).link != "outside":
            return index
        faults = tuple(
            Fault(slug, f"is no index as it has to be; {UNSHOWN}")
            for slug in sorted({each.slug for each in index.faults})
        )
        kept = index.weight_map if index.state == "read" else {}
        sha256 = None if index.state == "damaged" else index.sha256
        return Index(index.state, sha256, kept, index.total_size, faults, code=index.code)
    if state == "unread":
        return Index("unread", reason=reason, code=code)
    return Index("damaged", faults=(Fault("malformed-index", reason or "leads nowhere: a broken symlink"),))


def read_shard(source: Source, path: str, entry: Entry, limits: Limits) -> Shard:
    """One shard's header, or why it was not read."""
    try:
        file = source.open(path)
    except ForbiddenError as error:  # forbidden-symlink reports it
        return Shard(path, entry.size, "damaged", reason=str(error).removeprefix(f"{path}: "))
    except ReadError as error:
        return Shard(path, entry.size, "unread", reason=str(error).removeprefix(f"{path}: "), code=code_of(error))
    try:
        shard = _shard(file, path, limits)
        return _without_words(shard) if entry.link == "outside" else shard
    except ReadError as error:
        return Shard(path, file.size, "unread", reason=str(error).removeprefix(f"{path}: "), code=code_of(error))
    finally:
        file.close()


# What a header can have beside being one: nothing of it depends on who chose the bytes.
_OF_A_HEADER = frozenset({"truncated-shard", "trailing-bytes", "uncovered-bytes", "overlapping-tensors"})


def _without_words(shard: Shard) -> Shard:
    """A shard as it is where its header is one; else without a byte, number or name of the file it is reached in."""
    if shard.state == "read" and _OF_A_HEADER.issuperset(fault.slug for fault in shard.faults):
        return shard
    faults = {
        fault.slug: fault
        if fault.slug in ("not-a-shard", "apple-double")  # these name a kind
        else Fault(fault.slug, f"header is none; {UNSHOWN}")
        for fault in shard.faults
    }
    kept = tuple(faults.values())
    return Shard(
        shard.path,
        shard.size,
        shard.state,
        faults=kept,
        reason=shard.reason,
        entries=shard.entries,
        values=shard.values,
        code=shard.code,
    )


def _shard(file: File, path: str, limits: Limits) -> Shard:
    size = file.size

    def damaged(slug: str, message: str, begin: int, end: int, kind: str = "") -> Shard:
        return Shard(path, size, "damaged", faults=(Fault(slug, message, begin, end, kind=kind),))

    head = file.read(0, min(size, HEAD))
    kind = disguise(head, size)
    if kind == APPLE_DOUBLE and path.rpartition("/")[2].startswith("._"):
        return damaged("apple-double", f"is {kind}, {size:,} bytes", 0, size)
    if kind is not None:
        return damaged("not-a-shard", f"is {kind}, {size:,} bytes, not a safetensors file", 0, size, kind)
    if size < 8:
        return damaged(
            "invalid-header-length", f"file is {size} bytes, the header's length alone needs 8", 0, size, "no length"
        )
    length = int.from_bytes(head[:8], "little")
    if length < 2:
        return damaged(
            "invalid-header-length", f"header length is {length}, the smallest header '{{}}' has 2", 0, 8, "small"
        )
    if length > size - 8:
        text = f"header length is {length:,}, file has {size - 8:,} bytes behind it; it starts with {quoted(head)}"
        return damaged("invalid-header-length", text, 0, 8)
    if length > limits.header_bytes:
        reason = f"header length is {length:,}, limit {limits.header_bytes:,} (header_bytes)"
        return Shard(path, size, "unread", reason=reason, code="limit")
    raw = head[8 : 8 + length] if len(head) >= 8 + length else file.read(8, 8 + length)
    header = parse_header(raw, size - 8 - length, limits)
    digest = hashlib.sha256(raw).hexdigest()
    state: Literal["read", "damaged", "unread"] = "read" if header.complete else "damaged"
    if header.over_limit is not None:
        state = "unread"
    tiling = header.tiling
    return Shard(
        path,
        size,
        state,
        length,
        digest,
        header.metadata,
        header.tensors if tiling is None else Deferred(len(tiling), tiling.tensors),
        header.faults,
        header.over_limit,
        tiling=tiling,
        entries=header.entries,
        values=header.values,
        code=None if header.over_limit is None else "limit",
    )
