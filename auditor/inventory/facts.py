"""What was read of a checkpoint, frozen: its inventory, its configuration, and what stands in a fact's place."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

from msgspec import Struct, field

from auditor.errors import Unread
from auditor.format.entries import Fault, Index, Shard, TensorHeader
from auditor.format.files import CONFIG, Member, member_of
from auditor.sources.entry import Entry
from auditor_schemas.codes import Code
from auditor_schemas.rule import AnyMissing, File, Subject


class ConfigFile(Struct, frozen=True):
    """config.json as read: its bytes, or why there are none, with the code of an unread one.

    `outside`: reached by a link that leaves the checkpoint, so that nothing of it is shown unless it is a config.
    """

    state: Literal["read", "absent", "damaged", "unread"]
    data: bytes = b""
    sha256: str | None = None
    reason: str | None = None
    outside: bool = False
    code: Code | None = None


class Inventory(Struct, frozen=True, dict=True):
    """Everything the walk saw: shards, index, odd entries, and what stayed unread with its reason and code.

    `listed` is false where the source cannot list its files: `entries` then holds what was asked for by name.
    `impostors` are files that go with the weights (a tokenizer, say) and what stands in their place.
    """

    shards: tuple[Shard, ...]
    index: Index | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    cancelled: bool = False
    listed: bool = True
    impostors: dict[str, str] = field(default_factory=dict)
    codes: tuple[Code, ...] = ()

    @property
    def reasons(self) -> list[Unread]:
        """What stayed unread, each sentence with its code."""
        return [Unread(*each) for each in zip(self.unread, self.codes, strict=True)]

    @cached_property
    def parts(self) -> tuple[Shard, ...]:
        """The shards that belong to the checkpoint, strays left out."""
        return tuple(shard for shard in self.shards if not shard.stray)

    @cached_property
    def tensors(self) -> dict[str, TensorHeader]:
        """Every tensor by name; of a name in several shards the last shard's, as loaders take it."""
        merged: dict[str, TensorHeader] = {}
        for shard in self.parts:
            merged.update(shard.tensors)
        return merged

    @cached_property
    def stored(self) -> int:
        """Tensors in all shards together, duplicates counted each time."""
        return sum(len(shard.tensors) for shard in self.parts)

    @cached_property
    def complete(self) -> bool:
        """Whether every shard's tensors are known."""
        return not self.unread and all(shard.state == "read" for shard in self.parts)

    @cached_property
    def payload_bytes(self) -> int:
        """Bytes of all tensors in all shards, by their offsets."""
        return sum(
            shard.size - shard.data_begin
            if shard.state == "read" and not shard.faults
            else sum(header.data_offsets[1] - header.data_offsets[0] for header in shard.tensors.values())
            for shard in self.parts
        )

    @cached_property
    def indexed(self) -> bool:
        """Whether index and shards agree both ways, entry by entry."""
        if self.index is None or len(self.index.weight_map) != self.stored:
            return False
        return all(map(self.index.holds, self.parts))

    def faults(self, slug: str) -> Iterator[tuple[Shard, Fault]]:
        """Every fault of one kind, with its shard; what is wrong with a stray is told with the stray."""
        for shard in self.parts:
            for fault in shard.faults:
                if fault.slug == slug:
                    yield shard, fault

    def claims(self, path: str) -> bool:
        """Whether a file would be a part of the checkpoint by its name; without an index any is."""
        return self.index is None or not self.index.weight_map or self.index.claims(path)

    @cached_property
    def unnumbered(self) -> tuple[Member, int] | None:
        """Without an index: a shard of the one series that all belong to, and how many of its numbers are missing."""
        members = [member_of(shard.path) for shard in self.parts]
        first = members[0] if members else None
        if self.index is not None or not self.listed or self.unread or first is None:
            return None
        if any(member is None or member.series != first.series for member in members):
            return None
        missing = first.total - len({member.number for member in members if member and member.number <= first.total})
        return (first, missing) if missing > 0 else None

    def lost_with(self, shard: Shard) -> tuple[Subject, ...]:
        """What is not known because a shard's header is not: what the index places there and was not read."""
        if shard.state == "read":
            return ()
        lost = (
            []
            if self.index is None
            else [name for name in self.index.names_in(shard.path) if name not in shard.tensors]
        )
        return (*lost, File(shard.path), *(() if self.index is not None else (AnyMissing(),)))

    def shard_of(self, name: str) -> Shard | None:
        """The shard that holds a tensor (of several the last), or None."""
        return self._holders.get(name)

    @cached_property
    def _holders(self) -> dict[str, Shard]:
        return {name: shard for shard in self.parts for names in shard.kinds.values() for name in names}


class ConfigFault(Struct, frozen=True):
    """One fault of config.json, or of a `file` beside it: `kind` is the slug of the rule that reports it."""

    kind: str
    field: str | None
    message: str
    expected: Any = None
    actual: Any = None
    file: str = CONFIG


class Blocked(Struct, frozen=True):
    """Stands in a fact's place: rules that need the fact are not applicable, with this reason."""

    reason: str
