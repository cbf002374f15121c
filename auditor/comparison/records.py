"""What comes of holding tensors against expectations, frozen: counts, differences, weights beside their scales."""

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from auditor.families.expectations import Expectations, Row, component_of
from auditor.families.scaling import Companion, Quantiser
from auditor.format.dtypes import Dtype, packed_bytes
from auditor.format.entries import TensorHeader, elements
from auditor.inventory.facts import Inventory

_Held = TypeVar("_Held")


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
    behind the declared ones that hold an MTP module; `beyond` the other unexpected names of a layer or an expert
    whose number the config does not have, each with what is numbered, its number, and how many there are. `named_as`
    are the families that unexpected names tell, once somebody has looked.
    """

    missing: dict[str, Row]
    absent: dict[str, Row]
    unexpected: dict[str, TensorHeader]
    misshapen: dict[str, Row]
    mistyped: dict[str, Row]
    missing_layers: dict[int, tuple[str, ...]] = field(default_factory=dict)
    undeclared_mtp: dict[int, tuple[str, ...]] = field(default_factory=dict)
    beyond: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    named_as: "NamedAs | None" = None

    @property
    def faults(self) -> int:
        """How many tensors disagree."""
        return len(self.missing) + len(self.unexpected) + len(self.misshapen.keys() | self.mistyped.keys())

    def exact(self, expectations: Expectations) -> bool:
        """Whether every tensor is as expected; of an optional row all are there or none."""
        rows = frozenset(self.absent.values())
        return not self.faults and len(self.absent) == sum(map(expectations.multiplicity, rows))

    def without(self, names: Collection[str]) -> "Match":
        """What is left to explain once these names are."""
        if not names:
            return self
        return replace(
            self.present(names),
            missing=_without(self.missing, names),
            unexpected=_without(self.unexpected, names),
            misshapen=_without(self.misshapen, names),
            mistyped=_without(self.mistyped, names),
        )

    def present(self, names: Collection[str]) -> "Match":
        """The same where these names are there in another way: no copy is absent, no layer of one missing whole."""
        layers = {layer: held for layer, held in self.missing_layers.items() if not any(map(names.__contains__, held))}
        return replace(self, absent=_without(self.absent, names), missing_layers=layers)


def _without(held: dict[str, _Held], names: Collection[str]) -> dict[str, _Held]:
    return {name: each for name, each in held.items() if name not in names}


# As a component of its own in sums: block scales are no parameters of what they scale.
SCALES = "scales"


class Part(Struct, frozen=True, gc=False):
    """How much more of a tensor is stored than is implied, and the component it counts to; None: to none.

    `parameters`: the values that the elements stand for, several an element where they are packed.
    """

    component: str | None
    bytes: int
    elements: int
    parameters: int


class Differences(Struct, frozen=True, dict=True):
    """Why sums over the headers are not those over what is implied; worked out for a wrong sum alone.

    Where no config implies anything, the index does: each tensor that it names, once.
    """

    inventory: Inventory
    expectations: Expectations | None

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The tensors of which more or less is stored than is implied."""
        index = self.inventory.index.weight_map if self.inventory.index is not None else {}
        further = self._further()
        found: dict[str, Part] = {}
        for name, header in self.inventory.tensors.items():
            row = self._expected.get(name)
            size, count = further.get(name, (0, 0))
            values = count if row is None else count * row.packing(header.dtype)
            if row is not None:
                size, count = size - packed_bytes(row.dtype, elements(row.shape)), count - elements(row.shape)
                values -= row.parameters
            if row is not None or self._expected or name not in index:
                begin, end = header.data_offsets
                stored = elements(header.shape)
                size, count = size + end - begin, count + stored
                values += stored if row is None else stored * row.packing(header.dtype)
            if size or count or values:
                found[name] = Part(self._component(name, row), size, count, values)
        for name, row in self._expected.items():
            if name not in self.inventory.tensors:
                count = elements(row.shape)
                found[name] = Part(self._component(name, row), -packed_bytes(row.dtype, count), -count, -row.parameters)
        return found

    @cached_property
    def unsized(self) -> frozenset[str]:
        """The tensors that the index names, that are not there, and of whose size nothing is known."""
        if self.inventory.index is None:
            return frozenset()
        return frozenset(self.inventory.index.weight_map.keys() - self.inventory.tensors.keys() - self._expected.keys())

    def of(self, component: str) -> dict[str, int]:
        """What each tensor of a component makes, in parameters."""
        return self._by_component.get(component, {})

    @cached_property
    def _by_component(self) -> dict[str | None, dict[str, int]]:
        found: dict[str | None, dict[str, int]] = {}
        for name, part in self.parts.items():
            if part.parameters:
                found.setdefault(part.component, {})[name] = part.parameters
        return found

    @cached_property
    def _expected(self) -> dict[str, Row]:
        return self.expectations.names if self.expectations is not None else {}

    def _component(self, name: str, row: Row | None) -> str | None:
        if row is None or self.expectations is None:
            return None
        if row.role == "scale":
            return SCALES
        layer = self.expectations.naming.layer_of(name)
        return component_of(row.component, mtp=layer in self.expectations.mtp_layers)

    def _further(self) -> dict[str, tuple[int, int]]:
        """What is stored of a name beside the tensor that loaders take: its copies in other shards."""
        tensors = self.inventory.tensors
        further: dict[str, tuple[int, int]] = {}
        if self.inventory.stored == len(tensors):
            return further
        for shard in self.inventory.parts:
            for name, header in shard.tensors.items():
                if tensors[name] is not header:
                    begin, end = header.data_offsets
                    size, count = further.get(name, (0, 0))
                    further[name] = size + end - begin, count + elements(header.shape)
        return further


class Grid(Struct, frozen=True):
    """Weights in fewer bits, alike in shape, with companions alike in shape and dtype. `weights` are the codes' names.

    `needed` is the shape that the companion has to have, None where nothing says it. `first`: of all companions of a
    format the one that its weights are counted by.
    """

    weight_shape: tuple[int, ...]
    scale_shape: tuple[int, ...]
    scale_dtype: Dtype
    weights: Sequence[str]
    companion: Companion
    quantiser: Quantiser
    needed: tuple[int, ...] | None = None
    first: bool = True


class Orphan(Struct, frozen=True):
    """The weight that a companion would belong to, and the dtype of its codes."""

    weight: str
    dtype: Dtype


class Pairing(Struct, frozen=True, dict=True):
    """Weights in fewer bits and what goes with them, across all shards.

    `grids` hold the weights that have a companion, `unscaled` those that lack one they need, with the names of what
    they lack, `orphans` the companions whose weight is not there or not in fewer bits.
    """

    grids: list[Grid]
    unscaled: dict[str, tuple[str, ...]] = field(default_factory=dict)
    orphans: dict[str, Orphan] = field(default_factory=dict)

    @cached_property
    def scaled(self) -> int:
        """How many weights in fewer bits have a scale."""
        return sum(len(grid.weights) for grid in self.grids if grid.first)


class Cause(Struct, frozen=True):
    """What accounts for many disagreements at once. `explains`: tensors stored or needed that disagree by it alone."""

    explains: tuple[str, ...]


class NamedAs(Struct, frozen=True):
    """Families that name tensors alike, and as the stored ones are named; `count` names tell it, `example` for one.

    `wider`: they have all names that tell a family that is expected, and more.
    """

    families: tuple[str, ...]
    example: str
    count: int
    wider: bool


class OtherFamily(Cause, frozen=True):
    """The tensors are `named` as in other families than the one that is asked.

    `there` of the `expected` names are stored; None where the config is none of the family's. `beside` is what would go
    with the tensors that are explained.
    """

    named: NamedAs
    there: int | None = None
    expected: int | None = None
    beside: tuple[str, ...] = ()


class Renaming(Cause, frozen=True):
    """Names that hold `found` where the layout has `needed`; `stored` for example, which should be `example`."""

    found: str
    needed: str
    stored: str
    example: str
    count: int


class Renumbering(Cause, frozen=True):
    """Layers numbered `by` too high: `stored` for example, which should be `example`.

    `lacking` are the tensors of layers that would be missing under the right numbers.
    """

    by: int
    stored: str
    example: str
    lacking: tuple[str, ...]


class Fusion(Cause, frozen=True):
    """Tensors `stored` that hold others of the layout together, or are parts of one; `pieces` and `whole` their kinds.

    `shape` is that of the first that is stored.
    """

    stored: tuple[str, ...]
    pieces: tuple[str, ...]
    whole: tuple[str, ...]
    shape: tuple[int, ...]


class TensorRank(Cause, frozen=True):
    """One of `of` tensor-parallel ranks: `count` weights have 1/`of` of their size, such as `example`."""

    of: int
    count: int
    example: str
    actual: tuple[int, ...]
    needed: tuple[int, ...]


class ExpertRank(Cause, frozen=True):
    """One expert-parallel rank: every layer holds the experts `first` to `last` (included) of `experts`."""

    first: int
    last: int
    experts: int


class Stage(Cause, frozen=True):
    """One pipeline stage: the layers `first` to `last` (included) of `layers`, with what goes with its ends."""

    first: int
    last: int
    layers: int


class LeftOut(Cause, frozen=True):
    """`layers` whose `count` tensors are stored, in no index, and behind the `declared` layers of the main model."""

    layers: tuple[int, ...]
    declared: int
    count: int


class ExpertCounts(Cause, frozen=True):
    """MoE layers, of `layers` in all, with the number of experts that each holds instead of `declared`."""

    counts: dict[int, int]
    declared: int
    layers: int


class FloatDtype(Cause, frozen=True):
    """Unquantised tensors, all kinds of them, of the float dtype `actual` where the config gives them `needed`."""

    actual: Dtype
    needed: Dtype


class Packing(Cause, frozen=True):
    """`count` modules stored in another quantisation's `format`; `stored` is a tensor of one."""

    format: str
    stored: str
    count: int


class Misdeclared(Cause, frozen=True):
    """`modules` that an export declares to be `needed` and that are stored as `found`, formats or plain dtypes.

    `stored` is a tensor of one; `entries` those of the list of what is left out that name any of them.
    """

    needed: str
    found: str
    modules: tuple[str, ...]
    stored: str
    entries: tuple[str, ...]

    @property
    def last(self) -> str:
        """The last part of the name of a tensor that every such module has."""
        return self.stored.rpartition(".")[2]


class Correction(Struct, frozen=True):
    """A config field whose value the tensors contradict with one voice: with `shown`, `explained` would agree.

    `settles` are the fields that other fields rule out as declared, and no longer with `shown`.
    """

    field: str
    declared: Any
    shown: Any
    explained: tuple[str, ...]
    settles: tuple[str, ...] = ()


class Tally(Struct, frozen=True):
    """Parameters by component. `from_config` None where no expectations could be derived."""

    components: dict[str, tuple[int | None, int]]
    scale_elements: int
    unclassified_elements: int
    expected_scale_elements: int | None = None
