"""Weights in fewer bits beside what goes with them, both ways, wherever each is stored."""

from collections.abc import Collection

from auditor.comparison.records import Grid, Match, Orphan, Pairing
from auditor.families.expectations import Expectations, Row, RowNames
from auditor.families.naming import Naming
from auditor.families.scaling import Companion, Quantiser, is_scale, scalar
from auditor.format.dtypes import FP8, Dtype
from auditor.inventory.facts import Inventory

_Kind = tuple[tuple[int, ...], Quantiser, Companion, tuple[int, ...], Dtype]


def pair(inventory: Inventory, expectations: Expectations | None = None, found: Match | None = None) -> Pairing:
    """Pair what is stored: codes by the format that their row has, FP8 that nobody expected by the published one.

    Where every tensor is as expected, and all or none of an optional row's, the rows say it all.
    """
    if expectations is not None and found is not None and found.exact(expectations):
        return _pair_rows(expectations, frozenset(found.absent.values()))
    names = expectations.names if expectations is not None else {}
    naming = expectations.naming if expectations is not None else Naming()
    published = _published(expectations, naming)
    tensors = inventory.tensors
    grids: dict[_Kind, list[str]] = {}
    unscaled: dict[str, tuple[str, ...]] = {}
    paired = set()
    for name, header in tensors.items():
        quantiser = _quantiser(name, header.dtype, names.get(name), published)
        if quantiser is None:
            continue
        lacking = []
        for companion in quantiser.companions:
            other = companion.of(name)
            held = tensors.get(other)
            if held is not None:
                paired.add(other)
                grids.setdefault((header.shape, quantiser, companion, held.shape, held.dtype), []).append(name)
            elif not companion.optional:
                lacking.append(other)
        if lacking:
            unscaled[name] = tuple(lacking)
    orphans = {}
    for name in tensors:
        if name not in paired:
            row = names.get(name)
            weight = naming.weight(name) if expectations is None or row is None else expectations.codes_of(name)
            if weight is not None:
                codes = names.get(weight)
                orphans[name] = Orphan(weight, FP8 if codes is None or not codes.quantised else codes.dtype)
    return Pairing([_grid(*kind, weights) for kind, weights in grids.items()], unscaled, orphans)


def _quantiser(name: str, dtype: Dtype, row: Row | None, published: Quantiser) -> Quantiser | None:
    """The format of a stored tensor; None where it is no weight in fewer bits."""
    if row is not None and (row.role == "scale" or dtype == row.dtype):
        return row.quantiser
    if dtype != FP8 or is_scale(name):  # FP4 formats store their scales as FP8
        return None
    return published


def _published(expectations: Expectations | None, naming: Naming) -> Quantiser:
    """The format of FP8 weights that nobody expected: the layout's own, or one of which no block is known."""
    if expectations is not None and expectations.own is not None and expectations.own.dtype == FP8:
        return expectations.own
    return Quantiser("FP8", FP8, (0, 0), (Companion(naming.scales, ("F32",), scalar),))


def _grid(
    shape: tuple[int, ...],
    quantiser: Quantiser,
    companion: Companion,
    scale: tuple[int, ...],
    dtype: Dtype,
    weights: list[str] | RowNames,
) -> Grid:
    first = companion is quantiser.companions[0]
    whole = (*shape[:-1], shape[-1] * quantiser.packing) if shape else shape
    needed = companion.shape(whole) if any(quantiser.block) and len(shape) > 1 else None
    return Grid(shape, scale, dtype, weights, companion, quantiser, needed, first)


def _pair_rows(expectations: Expectations, absent: Collection[Row]) -> Pairing:
    rows = {row.suffix: row for row in expectations.layers_of if row.role == "scale" and row not in absent}
    return Pairing(
        [
            Grid(
                row.shape,
                rows[other].shape,
                rows[other].dtype,
                RowNames(expectations, row),
                companion,
                row.quantiser,
                rows[other].shape,
                position == 0,
            )
            for row in expectations.layers_of
            if row.quantiser is not None and row not in absent
            for position, companion in enumerate(row.quantiser.companions)
            for other in (companion.of(row.suffix),)
            if other in rows
        ]
    )
