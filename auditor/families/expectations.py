"""What a config implies, frozen: rows of tensors alike, in templates of layers, and the names they stand for."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal

from msgspec import Struct

from auditor.families.exports import Export
from auditor.families.naming import Naming
from auditor.families.scaling import Companion, Quantiser
from auditor.format.dtypes import Dtype
from auditor.format.entries import elements

Role = Literal["weight", "scale", "norm", "bias", "router_bias", "vocabulary", "table"]


class Row(Struct, frozen=True, eq=False):
    """A kind of tensor that the config implies, alike in every layer (and expert) it occurs in.

    `suffix` follows the layer's prefix, or is the whole name where `top`; `{expert}` stands for the expert's number.
    `split` is the axis that tensor parallelism divides, None where the tensor is replicated. `quantiser`: the tensor
    is the codes of a weight of `shape_of_weight`. `companion`: it goes with such codes, whose suffix is `codes`; its
    role is scale. `linear`: an export may store it in fewer bits. `allowed`: further dtypes that are as sound as
    `dtype`, the usual one. `optional`: its absence is no fault. `below`: a table of whole numbers from 0 to below
    that, those of one row all different.
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
    optional: bool = False
    linear: bool = False
    allowed: tuple[Dtype, ...] = ()
    quantiser: Quantiser | None = None
    shape_of_weight: tuple[int, ...] | None = None
    companion: Companion | None = None
    codes: str | None = None
    below: int | None = None

    @property
    def quantised(self) -> bool:
        """Whether it is the codes of a weight in fewer bits."""
        return self.quantiser is not None

    @property
    def parameters(self) -> int:
        """Values that the tensor stands for, those that share an element each."""
        return elements(self.shape if self.shape_of_weight is None else self.shape_of_weight)

    def packing(self, dtype: Dtype) -> int:
        """How many values an element of a stored tensor of this row stands for."""
        return self.quantiser.packing if self.quantiser is not None and dtype == self.dtype else 1


class Template(Struct, frozen=True):
    """The rows of some layers, in the order in which a layer's tensors are stored."""

    layers: tuple[int, ...]
    rows: tuple[Row, ...]


class Expectations(Struct, frozen=True, dict=True):
    """Every tensor the config implies. `names` maps each name to its row, in storage order per layer.

    `mtp_layers` are those of templates that are MTP modules. `naming` says how layers are named, `own` how linear
    layers are stored that have no format of their own (None: as floats), `export` is the one that some formats come of.
    """

    top: tuple[Row, ...]
    templates: tuple[Template, ...]
    mtp_layers: tuple[int, ...] = ()
    naming: Naming = Naming()
    own: Quantiser | None = None
    export: Export | None = None

    @cached_property
    def names(self) -> dict[str, Row]:
        """Expected tensor name → row: the top-level tensors, then layer by layer."""
        names = {row.suffix: row for row in self.top}
        for template in self.templates:
            suffixes, rows = expand(template.rows)
            for layer in template.layers:
                prefix = self.naming.prefix(layer)
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
        return self._placed(name)[1]

    def _placed(self, name: str) -> tuple[str, Row | None]:
        """What a name begins with, its layer's number included, and the row that it belongs to."""
        prefix = self.naming.prefix_in(name)
        held = self._by_prefix.get(prefix) if prefix else None
        return prefix, self._by_top.get(name) if held is None else held.get(name[len(prefix) :])

    def rows_of(self, names: Sequence[str]) -> list[Row | None]:
        """The row of each name or None. Fastest where names of one layer stand together; `names` is not made for it."""
        rows: list[Row | None] = []
        count = len(names)
        while (begin := len(rows)) < count:
            first = names[begin]
            prefix = self.naming.prefix_in(first)
            held = self._by_prefix.get(prefix) if prefix else None
            if held is None:
                rows.append(self._by_top.get(first))
            else:
                end, cut = begin + 1, len(prefix)
                while end < count and names[end].startswith(prefix):
                    end += 1
                rows += map(held.get, [name[cut:] for name in names[begin:end]])
        return rows

    def beside(self, name: str) -> tuple[str, ...]:
        """What is of no use without a tensor: the companions of codes, by the expected format or the layout's own."""
        row = self.row_of(name)
        if row is not None and row.role == "scale":
            return ()
        quantiser = self.own if row is None or row.quantiser is None else row.quantiser
        if quantiser is None:
            return (self.naming.scale(name),)
        return tuple(companion.of(name) for companion in quantiser.companions)

    def codes_of(self, name: str) -> str | None:
        """The codes that a companion goes with; None for another tensor."""
        prefix, row = self._placed(name)
        if row is not None:
            return prefix + self._codes(row, name) if row.codes is not None else None
        return self.naming.weight(name)

    def _codes(self, row: Row, name: str) -> str:
        expert = self.naming.expert_of(name)
        assert row.codes is not None
        return row.codes if expert is None else row.codes.replace("{expert}", str(expert))

    @cached_property
    def _by_top(self) -> dict[str, Row]:
        return {row.suffix: row for row in self.top}

    @cached_property
    def _by_prefix(self) -> dict[str, dict[str, Row]]:
        """The rows of each layer, by what its names begin with, and by what follows that."""
        found: dict[str, dict[str, Row]] = {}
        for template in self.templates:
            rows = dict(zip(*expand(template.rows), strict=True))
            for prefix in map(self.naming.prefix, template.layers):
                found[prefix] = {**found[prefix], **rows} if prefix in found else rows
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

    @cached_property
    def optional(self) -> tuple[Row, ...]:
        """The rows whose absence is no fault."""
        return tuple(row for row in self.layers_of if row.optional)

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
            prefix = self.naming.prefix(layer)
            yield from (prefix + suffix for suffix in suffixes)


def component_of(component: str, *, mtp: bool) -> str:
    """The component of a row in the main model or in an MTP module."""
    if not mtp or component.startswith("mtp_"):
        return component
    return "mtp_block_norms" if component == "norms" else f"mtp_{component}"


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
