"""The frozen values that reading passes on. No I/O, no judgement; each can be written to JSON and read back equal.

Paths are POSIX and relative to the checkpoint, byte ranges half-open, shapes tuples, sizes in bytes.
"""

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, chain, pairwise
from typing import Any, Literal, NamedTuple

from msgspec import Struct, field

from auditor.dtypes import FP8, Dtype, packed_bytes
from auditor.entry import Entry
from auditor.names import layer_of
from auditor.text import plain_path
from auditor_schemas.rule import AnyMissing, File, Subject

SCALE_SUFFIX = "_scale_inv"
# What only an MTP module has; a layer behind the declared ones is one by these.
MTP_MARKS = (".eh_proj.weight", ".enorm.weight", ".hnorm.weight")

_SERIES = re.compile(r"(.+)-([0-9]{1,9})-of-([0-9]{1,9})\.safetensors")


class Member(NamedTuple):
    """What a name such as model-00001-of-000163.safetensors says: the series it belongs to, and its number there."""

    stem: str
    total: int
    number: int

    @property
    def series(self) -> tuple[str, int]:
        """What all members have in common."""
        return self.stem, self.total


def member_of(path: str) -> Member | None:
    """The place of a file in a numbered series, or None for another name."""
    found = _SERIES.fullmatch(path)
    return None if found is None else Member(found[1], int(found[3]), int(found[2]))


def is_consolidated(path: str) -> bool:
    """Whether a file is called as Mistral calls weights in its own format."""
    return path.startswith("consolidated") and path.endswith(".safetensors")


class TensorHeader(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One tensor as its shard's header describes it; `data_offsets` count from the end of the header."""

    dtype: Dtype
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


Kind = tuple[Dtype, tuple[int, ...]]


class Tiling(Struct, frozen=True):
    """A header by kind whose tensors lie back to back in its order, so that their sizes give all offsets.

    `names` are those of each kind, `order` the position in `kinds` of each tensor, as an array of "I".
    """

    kinds: list[Kind]
    names: list[list[str]]
    order: bytes

    def __len__(self) -> int:
        return sum(map(len, self.names))

    def tensors(self) -> dict[str, TensorHeader]:
        """The header's entries in its order; those of one kind share dtype and shape."""
        order = array("I", self.order)
        following = [iter(names).__next__ for names in self.names]
        names = [following[kind]() for kind in order]
        dtypes, shapes = [each[0] for each in self.kinds], [each[1] for each in self.kinds]
        sizes = [packed_bytes(dtype, elements(shape)) for dtype, shape in self.kinds]
        offsets = pairwise(accumulate(map(sizes.__getitem__, order), initial=0))
        headers = map(TensorHeader, map(dtypes.__getitem__, order), map(shapes.__getitem__, order), offsets)
        return dict(zip(names, headers, strict=True))


class Fault(Struct, frozen=True):
    """Something a header or an index cannot be, as the slug of the rule that reports it; one for each kind of it.

    `begin` and `end` are offsets in the file, of the first where there are several; `tensors` the names concerned.
    `kind` tells apart what one rule reports; faults of one kind in several files are one finding.
    """

    slug: str
    message: str
    begin: int | None = None
    end: int | None = None
    tensors: tuple[str, ...] = ()
    expected: Any = None
    actual: Any = None
    kind: str = ""

    @property
    def span(self) -> tuple[int, int] | None:
        """The byte range in the file, where it is known."""
        return None if self.begin is None else (self.begin, self.begin if self.end is None else self.end)


State = Literal["read", "damaged", "unread"]


class Shard(Struct, frozen=True, dict=True):
    """One shard's header.

    read: every tensor of the shard is known. damaged: some are not, by the file's own fault.
    unread: not read for another reason (`reason`), such as permission or a limit. `stray`: no part of the
    checkpoint, since the index names other files; its tensors are not the checkpoint's. `tiling`: the same
    tensors by kind, where they lie back to back. `entries` and `values`: what its header has of them, tensors or
    not, where it had to be read value by value.
    """

    path: str
    size: int
    state: State
    header_bytes: int = 0
    header_sha256: str | None = None
    metadata: dict[str, str] | None = None
    tensors: Mapping[str, TensorHeader] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    reason: str | None = None
    stray: bool = False
    tiling: Tiling | None = None
    entries: int = 0
    values: int = 0

    @property
    def data_begin(self) -> int:
        """Offset of the first tensor byte in the file."""
        return 8 + self.header_bytes

    @cached_property
    def kinds(self) -> dict[Kind, list[str]]:
        """The names of each dtype and shape."""
        if self.tiling is not None:
            return dict(zip(self.tiling.kinds, self.tiling.names, strict=True))
        grouped: dict[Kind, list[str]] = {}
        for name, header in self.tensors.items():
            grouped.setdefault((header.dtype, header.shape), []).append(name)
        return grouped

    def span(self, name: str) -> tuple[int, int]:
        """The byte range of a tensor in the file."""
        begin, end = self.tensors[name].data_offsets
        return self.data_begin + begin, self.data_begin + end


class Index(Struct, frozen=True, dict=True):
    """model.safetensors.index.json. `weight_map` maps tensor names to shard paths, as written."""

    state: State
    sha256: str | None = None
    weight_map: Mapping[str, str] = field(default_factory=dict)
    total_size: int | None = None
    faults: tuple[Fault, ...] = ()
    reason: str | None = None

    @cached_property
    def files(self) -> dict[str, int]:
        """Each file the index names, with the number of tensors it places there."""
        return dict(Counter(self.weight_map.values()))

    @cached_property
    def series(self) -> set[tuple[str, int]]:
        """The numbered series that the files it names belong to."""
        return {member.series for path in self.places if (member := member_of(path)) is not None}

    @cached_property
    def places(self) -> set[str]:
        """The files it names by their plain paths, where they have one: ./NAME is NAME."""
        return {plain_path(path) or path for path in self.files}

    def claims(self, path: str) -> bool:
        """Whether a file is one of the checkpoint's by its name: named, or numbered like those that are."""
        member = member_of(path)
        return path in self.places or (member is not None and member.series in self.series)

    def holds(self, shard: Shard) -> bool:
        """Whether every tensor of a shard is placed there."""
        return all(map(set(self.by_file.get(shard.path, ())).issuperset, shard.kinds.values()))

    def names_in(self, path: str) -> tuple[str, ...]:
        """The tensors that the index places in a file."""
        return tuple(self.by_file.get(path, ()))

    @cached_property
    def by_file(self) -> dict[str, list[str]]:
        """The names by file, grouped once: a hostile index may name as many files as tensors."""
        grouped: dict[str, list[str]] = {}
        for name, file in self.weight_map.items():
            grouped.setdefault(file, []).append(name)
        return grouped


class ConfigFile(Struct, frozen=True):
    """config.json as read: its bytes, or why there are none.

    `outside`: reached by a link that leaves the checkpoint, so that nothing of it is shown unless it is a config.
    """

    state: Literal["read", "absent", "damaged", "unread"]
    data: bytes = b""
    sha256: str | None = None
    reason: str | None = None
    outside: bool = False


class Inventory(Struct, frozen=True, dict=True):
    """Everything the walk saw: shards, index, odd entries, and what stayed unread with its reason.

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

    @cached_property
    def exported_module(self) -> tuple[Shard, ...]:
        """The shards, where all they hold is an MTP module, and they are no part of more that names or index count."""
        read = {shard.path for shard in self.shards if shard.state == "read"}
        named = self.index.places if self.index is not None else set()
        if self.unnumbered is not None or (named & read and not named <= read):
            return ()
        marked = False
        layers: set[int] = set()
        for shard in self.shards:
            for name in chain.from_iterable(shard.kinds.values()):  # names are enough: no tensor is made for this
                layer = layer_of(name)
                if layer is not None:
                    layers.add(layer)
                # Under a wrapper's names nothing tells how many layers there are.
                elif name == "model.embed_tokens.weight" or ".layers." in name:
                    return ()
                if len(layers) > 1:
                    return ()
                marked = marked or name.endswith(MTP_MARKS)
        return self.shards if marked and layers else ()

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
        return {name: shard for shard in self.parts for name in shard.tensors}


class ConfigFault(Struct, frozen=True):
    """One fault of config.json: `kind` is the slug of the rule that reports it."""

    kind: str
    field: str | None
    message: str
    expected: Any = None
    actual: Any = None


class Blocked(Struct, frozen=True):
    """Stands in a fact's place: rules that need the fact are not applicable, with this reason."""

    reason: str


def scale_name(weight: str) -> str:
    """The name of a weight's block scale."""
    return weight + SCALE_SUFFIX


# Other spellings of block scales in the wild, by what stands in the place of `weight_scale_inv`.
OTHER_SCALES = ("weight_scale", "scale_inv", "scale", "scales", "weight_scales")
# Scales that are no block scales: of activations, or of a second level.
_FURTHER_SCALES = ("input_scale", "weight_scale_2", "weight_global_scale")


def is_scale(name: str) -> bool:
    """Whether a name is one of a scale, by the published convention or another known spelling."""
    return name.endswith(SCALE_SUFFIX) or name.rpartition(".")[2] in OTHER_SCALES + _FURTHER_SCALES


def other_scale_names(weight: str) -> Iterator[tuple[str, str]]:
    """Other spellings of a weight's scale, each with the name it makes."""
    stem = weight.removesuffix("weight")
    for spelling in OTHER_SCALES:
        yield spelling, stem + spelling


def is_fp8(header: TensorHeader) -> bool:
    """Whether a tensor holds FP8 codes of the published format."""
    return header.dtype == FP8


def elements(shape: Sequence[int]) -> int:
    """The number of elements of a shape."""
    product = 1
    for dimension in shape:
        product *= dimension
    return product
