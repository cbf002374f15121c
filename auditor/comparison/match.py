"""Joins what config.json implies with what the headers hold, once, for every rule that compares them."""

from collections import Counter
from collections.abc import Mapping

from auditor.comparison.records import Census, Match
from auditor.families.expectations import Expectations, Row
from auditor.families.naming import Naming
from auditor.format.dtypes import Dtype
from auditor.format.entries import Shard, TensorHeader
from auditor.inventory.facts import Inventory

# Tables of rotary embeddings that older code saved; loaders pass over them, in whatever layer they are.
BUFFERS = ".rotary_emb."

_Kind = tuple[Row | None, Dtype, tuple[int, ...]]


class CensusTaker:
    """Counts the tensors of shards by row, dtype and shape, as each shard is read."""

    def __init__(self, expectations: Expectations | None) -> None:
        self._expectations = expectations
        self._counted: dict[str, tuple[Shard, dict[_Kind, int]]] = {}

    def add(self, shard: Shard) -> None:
        """Count one shard's tensors."""
        self._counted[shard.path] = shard, self._count(shard)

    def _count(self, shard: Shard) -> dict[_Kind, int]:
        expectations = self._expectations
        return {
            (row, dtype, shape): count
            for (dtype, shape), names in shard.kinds.items()
            for row, count in Counter(
                [None] * len(names) if expectations is None else expectations.rows_of(names)
            ).items()
        }

    def census(self, inventory: Inventory) -> Census:
        """The census of all shards that are part of the checkpoint, those counted before not again."""
        counts: dict[_Kind, int] = {}
        files: dict[Row | None, list[str]] = {}
        for shard in inventory.parts:
            seen, counted = self._counted.get(shard.path, (None, {}))
            for kind, count in (counted if seen is shard else self._count(shard)).items():
                counts[kind] = counts.get(kind, 0) + count
                paths = files.setdefault(kind[0], [])
                if not paths or paths[-1] != shard.path:
                    paths.append(shard.path)
        return Census(counts, files)


def take_census(inventory: Inventory, expectations: Expectations | None) -> Census:
    """Count the tensors of all shards by row, dtype and shape."""
    return CensusTaker(expectations).census(inventory)


def is_exact(inventory: Inventory, expectations: Expectations, census: Census) -> bool:
    """Whether every tensor is there once and as expected, proven by counts alone; of optional rows all or none.

    Names are distinct and each leads to one row, so rows counted in full leave no name missing.
    """
    if inventory.stored != expectations.size - sum(map(expectations.multiplicity, unused(expectations, census))):
        return False
    # An index that agrees entry by entry names one shard per tensor, so no name is in two.
    if not inventory.indexed and inventory.stored != len(inventory.tensors):
        return False
    return all(
        row is not None
        and (row.dtype == dtype or dtype in row.allowed)
        and row.shape == shape
        and count == expectations.multiplicity(row)
        for (row, dtype, shape), count in census.counts.items()
    )


def unused(expectations: Expectations, census: Census) -> list[Row]:
    """The optional rows of which not one tensor is there."""
    return [row for row in expectations.optional if row not in census.files]


def match(inventory: Inventory, expectations: Expectations, census: Census | None = None) -> Match:
    """Missing, unexpected, misshapen and mistyped tensors, each name in its row's light."""
    if census is not None and is_exact(inventory, expectations, census):
        left_out = unused(expectations, census)
        return Match({}, {name: row for row in left_out for name in expectations.names_of(row)}, {}, {}, {})
    expected = expectations.names
    actual = inventory.tensors
    missing: dict[str, Row] = {}
    absent: dict[str, Row] = {}
    misshapen: dict[str, Row] = {}
    mistyped: dict[str, Row] = {}
    for name, row in expected.items():
        header = actual.get(name)
        if header is None:
            (absent if row.optional else missing)[name] = row
            continue
        if header.shape != row.shape:
            misshapen[name] = row
        if header.dtype != row.dtype and header.dtype not in row.allowed:
            mistyped[name] = row
    unexpected: dict[str, TensorHeader] = {}
    if len(actual) > len(expected) - len(missing) - len(absent):
        unexpected = {name: header for name, header in actual.items() if name not in expected}
    undeclared = _undeclared_mtp(expectations, unexpected) if unexpected else {}
    return Match(
        missing,
        absent,
        unexpected,
        misshapen,
        mistyped,
        _missing_layers(actual, missing, expectations.naming) if missing else {},
        undeclared,
        _beyond(expectations, unexpected, undeclared) if unexpected else {},
    )


def _missing_layers(
    actual: Mapping[str, TensorHeader], missing: dict[str, Row], naming: Naming
) -> dict[int, tuple[str, ...]]:
    there = {naming.layer_of(name) for name in actual}
    gone: dict[int, list[str]] = {}
    for name in missing:
        layer = naming.layer_of(name)
        if layer is not None and layer not in there:
            gone.setdefault(layer, []).append(name)
    return {layer: tuple(names) for layer, names in gone.items()}


def _undeclared_mtp(expectations: Expectations, unexpected: dict[str, TensorHeader]) -> dict[int, tuple[str, ...]]:
    naming = expectations.naming
    declared = {layer for template in expectations.templates for layer in template.layers}
    marked = {naming.layer_of(name) for name in unexpected if name.endswith(naming.marks)} - declared
    found: dict[int, list[str]] = {}
    for name in unexpected:
        layer = naming.layer_of(name)
        if layer is not None and layer in marked:
            found.setdefault(layer, []).append(name)
    return {layer: tuple(names) for layer, names in found.items()}


def _beyond(
    expectations: Expectations, unexpected: dict[str, TensorHeader], undeclared: Mapping[int, object]
) -> dict[str, tuple[str, int, int]]:
    """Unexpected tensors of a layer or an expert that the config does not count; buffers of old code left out."""
    experts = {
        layer: max((row.experts for row in template.rows), default=0)
        for template in expectations.templates
        for layer in template.layers
    }
    found = {}
    for name in unexpected:
        layer, expert = expectations.naming.layer_of(name), expectations.naming.expert_of(name)
        if layer is None or layer in undeclared or BUFFERS in name:
            continue
        if layer not in experts:
            found[name] = ("layer", layer, len(experts))
        elif expert is not None and expert >= experts[layer]:
            found[name] = ("expert", expert, experts[layer])
    return found
