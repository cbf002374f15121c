"""The frozen values that stages pass on. No I/O, no judgement; each can be written to JSON and read back equal.

Paths are POSIX and relative to the checkpoint, byte ranges half-open, shapes tuples, sizes in bytes.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, islice, pairwise, takewhile
from operator import methodcaller
from typing import Any, Literal

from msgspec import Struct, field

from auditor.deferred import Agreed
from auditor.dtypes import BYTES, FP8, Dtype
from auditor.entry import Entry

SCALE_SUFFIX = "_scale_inv"


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
        sizes = [elements(shape) * BYTES[dtype] for dtype, shape in self.kinds]
        offsets = pairwise(accumulate(map(sizes.__getitem__, order), initial=0))
        headers = map(TensorHeader, map(dtypes.__getitem__, order), map(shapes.__getitem__, order), offsets)
        return dict(zip(names, headers, strict=True))


class Fault(Struct, frozen=True):
    """Something a header or an index cannot be, as the slug of the rule that reports it.

    `begin` and `end` are offsets in the file; `tensors` the names concerned.
    """

    slug: str
    message: str
    begin: int | None = None
    end: int | None = None
    tensors: tuple[str, ...] = ()
    expected: Any = None
    actual: Any = None

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
    tensors by kind, where they lie back to back.
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

    def holds(self, shard: Shard) -> bool:
        """Whether every tensor of a shard is placed there."""
        find = self.weight_map.get
        return all([*map(find, names)].count(shard.path) == len(names) for names in shard.kinds.values())

    def names_in(self, path: str) -> tuple[str, ...]:
        """The tensors that the index places in a file."""
        return tuple(self._by_file.get(path, ()))

    @cached_property
    def _by_file(self) -> dict[str, list[str]]:
        """The names by file, grouped once: a hostile index may name as many files as tensors."""
        grouped: dict[str, list[str]] = {}
        for name, file in self.weight_map.items():
            grouped.setdefault(file, []).append(name)
        return grouped


class ConfigFile(Struct, frozen=True):
    """config.json as read: its bytes, or why there are none."""

    state: Literal["read", "absent", "damaged", "unread"]
    data: bytes = b""
    sha256: str | None = None
    reason: str | None = None


class Inventory(Struct, frozen=True, dict=True):
    """Everything the walk saw: shards, index, odd entries, and what stayed unread with its reason.

    `listed` is false where the source cannot list its files: `entries` then holds what was asked for by name.
    """

    shards: tuple[Shard, ...]
    index: Index | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    cancelled: bool = False
    listed: bool = True

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
        if isinstance(self.index.weight_map, Agreed):
            return True
        return all(map(self.index.holds, self.parts))

    def faults(self, slug: str) -> Iterator[tuple[Shard, Fault]]:
        """Every fault of one kind, with its shard."""
        for shard in self.shards:
            for fault in shard.faults:
                if fault.slug == slug:
                    yield shard, fault

    def lost_with(self, shard: Shard) -> tuple[str, ...]:
        """What is not known because a shard's header is not: what the index places there and was not read."""
        if shard.state == "read":
            return ()
        lost = (
            []
            if self.index is None
            else [name for name in self.index.names_in(shard.path) if name not in shard.tensors]
        )
        return (*lost, f"file:{shard.path}", *(() if self.index is not None else (ANY_MISSING,)))

    def shard_of(self, name: str) -> Shard | None:
        """The shard that holds a tensor (of several the last), or None."""
        return next((shard for shard in reversed(self.parts) if name in shard.tensors), None)


# In a failure's `takes`: any missing tensor may have been in a shard whose header is not known.
ANY_MISSING = "*"

Role = Literal["weight", "scale", "norm", "bias", "router_bias", "vocabulary"]


class Row(Struct, frozen=True, eq=False):
    """A kind of tensor that the config implies, alike in every layer (and expert) it occurs in.

    `suffix` follows `model.layers.{layer}.`, or is the whole name where `top`; `{expert}` stands for the
    expert's number. `split` is the axis that tensor parallelism divides, None where the tensor is
    replicated. `quantised`: FP8 by the config. `optional`: its absence is no fault.
    """

    suffix: str
    shape: tuple[int, ...]
    dtype: Dtype
    component: str
    module: str
    role: Role
    top: bool = False
    experts: int = 0
    split: int | None = None
    quantised: bool = False
    optional: bool = False


class Template(Struct, frozen=True):
    """The rows of some layers, in the order in which a layer's tensors are stored."""

    layers: tuple[int, ...]
    rows: tuple[Row, ...]


_LAYERS = "model.layers."


class Expectations(Struct, frozen=True, dict=True):
    """Every tensor the config implies. `names` maps each name to its row, in storage order per layer."""

    top: tuple[Row, ...]
    templates: tuple[Template, ...]
    mtp_layers: tuple[int, ...] = ()

    @cached_property
    def names(self) -> dict[str, Row]:
        """Expected tensor name → row: the top-level tensors, then layer by layer."""
        names = {row.suffix: row for row in self.top}
        for template in self.templates:
            suffixes, rows = expand(template.rows)
            for layer in template.layers:
                prefix = f"{_LAYERS}{layer}."
                names.update(zip([prefix + suffix for suffix in suffixes], rows, strict=True))
        return names

    @cached_property
    def size(self) -> int:
        """How many names there are."""
        return len(self.top) + sum(
            len(template.layers) * sum(max(1, row.experts) for row in template.rows) for template in self.templates
        )

    def row_of(self, name: str) -> Row | None:
        """The row that a name belongs to, or None."""
        return self.rows_of([name])[0]

    def rows_of(self, names: Sequence[str]) -> list[Row | None]:
        """The row of each name or None. Fastest where names of one layer stand together; `names` is not made for it."""
        rows: list[Row | None] = []
        while len(rows) < len(names):
            first = names[len(rows)]
            layer = first[len(_LAYERS) :].partition(".")[0]
            prefix = f"{_LAYERS}{layer}."
            held = self._by_layer.get(layer) if first.startswith(prefix) else None
            if held is None:
                rows.append(self._by_top.get(first))
            else:
                run = takewhile(methodcaller("startswith", prefix), islice(names, len(rows), None))
                rows += map(held.get, [name[len(prefix) :] for name in run])
        return rows

    @cached_property
    def _by_top(self) -> dict[str, Row]:
        return {row.suffix: row for row in self.top}

    @cached_property
    def _by_layer(self) -> dict[str, dict[str, Row]]:
        """The rows of each layer, by its number as names have it, and by what follows that."""
        found: dict[str, dict[str, Row]] = {}
        for template in self.templates:
            rows = dict(zip(*expand(template.rows), strict=True))
            for layer in template.layers:
                found[str(layer)] = {**found[str(layer)], **rows} if str(layer) in found else rows
        return found

    @cached_property
    def layers_of(self) -> dict[Row, list[int]]:
        """The layers each row occurs in, ascending."""
        found: dict[Row, list[int]] = {row: [] for row in self.top}
        for template in self.templates:
            for row in template.rows:
                found.setdefault(row, []).extend(template.layers)
        for layers in found.values():
            layers.sort()
        return found

    def multiplicity(self, row: Row) -> int:
        """How many tensors a row stands for."""
        return 1 if row.top else len(self.layers_of[row]) * max(1, row.experts)

    def names_of(self, row: Row) -> Iterator[str]:
        """The names a row stands for."""
        if row.top:
            yield row.suffix
            return
        suffixes = expand([row])[0]
        for layer in self.layers_of[row]:
            yield from (f"model.layers.{layer}.{suffix}" for suffix in suffixes)


def expand(rows: Sequence[Row]) -> tuple[list[str], list[Row]]:
    """One layer's suffixes and their rows, expert after expert where rows of experts stand together."""
    suffixes: list[str] = []
    expanded: list[Row] = []
    position = 0
    while position < len(rows):
        stop = position + 1
        experts = rows[position].experts
        while experts and stop < len(rows) and rows[stop].experts == experts:
            stop += 1
        group = rows[position:stop]
        if experts:
            cuts = [row.suffix.split("{expert}") for row in group]
            for expert in range(experts):
                suffixes.extend([f"{head}{expert}{tail}" for head, tail in cuts])
            expanded.extend(list(group) * experts)
        else:
            suffixes.append(group[0].suffix)
            expanded.append(group[0])
        position = stop
    return suffixes, expanded


class Census(Struct, frozen=True, dict=True):
    """How many tensors there are of each row, dtype and shape, in all shards together; the row None: unexpected.

    `files` are the shards that hold tensors of a row, in order.
    """

    counts: dict[tuple[Row | None, Dtype, tuple[int, ...]], int]
    files: dict[Row | None, list[str]] = field(default_factory=dict)

    @cached_property
    def by_dtype(self) -> dict[str, int]:
        """Elements by dtype, scales included."""
        sums: dict[str, int] = {}
        for (_, dtype, shape), count in self.counts.items():
            sums[dtype] = sums.get(dtype, 0) + count * elements(shape)
        return dict(sorted(sums.items()))

    @cached_property
    def elements(self) -> int:
        """Elements of all tensors, scales included."""
        return sum(self.by_dtype.values())


class Match(Struct, frozen=True, dict=True):
    """Expected against actual tensors, joined once. `missing` maps names to their rows.

    Optional tensors that are absent are in `absent`, not in `missing`. `misshapen` and `mistyped` map
    the names of tensors whose shape or dtype is not the row's. `unexpected` has no row. `missing_layers`
    are the layers of which not one tensor is there, with the names they need; `undeclared_mtp` the layers
    behind the declared ones that hold an MTP module.
    """

    missing: dict[str, Row]
    absent: dict[str, Row]
    unexpected: dict[str, TensorHeader]
    misshapen: dict[str, Row]
    mistyped: dict[str, Row]
    missing_layers: dict[int, tuple[str, ...]] = field(default_factory=dict)
    undeclared_mtp: dict[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def faults(self) -> int:
        """How many tensors disagree."""
        return len(self.missing) + len(self.unexpected) + len(self.misshapen.keys() | self.mistyped.keys())


class RowNames(Sequence[str]):
    """The names a row stands for, made when they are asked for."""

    def __init__(self, expectations: Expectations, row: Row) -> None:
        self._expectations = expectations
        self._row = row

    def __len__(self) -> int:
        return self._expectations.multiplicity(self._row)

    def __iter__(self) -> Iterator[str]:
        return self._expectations.names_of(self._row)

    def __getitem__(self, position: Any) -> Any:
        return list(self)[position]


class Grid(Struct, frozen=True):
    """FP8 weights alike in shape whose block scales are alike in shape and dtype. `weights` are their names."""

    weight_shape: tuple[int, ...]
    scale_shape: tuple[int, ...]
    scale_dtype: Dtype
    weights: Sequence[str]


class Pairing(Struct, frozen=True, dict=True):
    """FP8 weights and their block scales across all shards.

    `grids` hold the weights that have a weight_scale_inv, `unscaled` the FP8 tensors that have none,
    `orphans` the scales whose weight is not there or not FP8.
    """

    grids: list[Grid]
    unscaled: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)

    @cached_property
    def scaled(self) -> int:
        """How many FP8 weights have a scale."""
        return sum(len(grid.weights) for grid in self.grids)


class Correction(Struct, frozen=True):
    """A config field whose value the tensors contradict with one voice: with `shown`, `explained` would agree."""

    field: str
    declared: Any
    shown: int
    explained: tuple[str, ...]


class ConfigFault(Struct, frozen=True):
    """One fault of config.json: `kind` is the slug of the rule that reports it."""

    kind: str
    field: str | None
    message: str
    expected: Any = None
    actual: Any = None


class Tally(Struct, frozen=True):
    """Parameters by component. `from_config` None where no expectations could be derived."""

    components: dict[str, tuple[int | None, int]]
    scale_elements: int
    unclassified_elements: int
    expected_scale_elements: int | None = None


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
