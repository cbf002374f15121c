"""What one side stores, weight by weight: codes with their scales are one, whatever convention they are of."""

from collections.abc import Iterator
from functools import cache
from math import ceil

from msgspec import Struct

from auditor.content.formats import SCALE_DTYPES, Blocks, Formats
from auditor.content.plan import ScaleAt
from auditor.conversion.facts import Stored
from auditor.families.conventions import CACHE_SCALES, CERTAIN_COMPANIONS, CONVENTIONS, blocks, is_packed, split
from auditor.families.expectations import Row
from auditor.families.scaling import WHOLE
from auditor.format.dtypes import FP8
from auditor.format.entries import Shard, TensorHeader, elements
from auditor.inventory.facts import Inventory

# What stands under a stem in the place of `weight`, where a format has another name for its codes.
_CODES = ("weight_packed", "qweight", "weight._data")
# What goes with codes under the same stem beside what conventions are sure of.
_BESIDE = frozenset({"input_scale", "activation_scale", "output_scale", "input_global_scale", "scales", "scale"})
_SCALES = (*SCALE_DTYPES, "U8")


class Side(Struct, frozen=True):
    """One side: every weight by the name that it is paired by, and every companion of codes by its own.

    `unreadable` are the names whose bytes are not all in the file: findings of an audit.
    """

    weights: dict[str, Stored]
    companions: dict[str, Stored]
    unreadable: tuple[str, ...] = ()


def side_of(inventory: Inventory, formats: Formats) -> Side:
    """Every weight of a checkpoint; of a name in several shards the last one, as loaders take it."""
    found: dict[str, tuple[Shard, Row | None]] = {}
    unreadable: list[str] = []
    for shard in inventory.parts:
        names = list(shard.extents)
        lost = set(shard.tensors) - set(names)
        unreadable += sorted(name for name in lost if elements(shard.tensors[name].shape))
        found.update(zip(names, ((shard, row) for row in formats.rows_of(names)), strict=True))
    reader = _Reader(found, formats)
    weights: dict[str, Stored] = {}
    owned: set[str] = set()
    for name, (shard, row) in found.items():
        stored = reader.stored(name, shard, row)
        weights[name] = stored
        owned.update(stored.companions)
    companions = {name: weights.pop(name) for name in owned if name in weights}
    return Side({_key(name): each for name, each in weights.items()}, companions, tuple(unreadable))


def _key(name: str) -> str:
    stem, part = split(name)
    return f"{stem}.weight" if part in _CODES else name


class _Reader:
    """How the names of a side are read, one by one."""

    def __init__(self, found: dict[str, tuple[Shard, Row | None]], formats: Formats) -> None:
        self._found = found
        self._formats = formats

    def stored(self, name: str, shard: Shard, row: Row | None) -> Stored:
        header = shard.tensors[name]
        begin, end = shard.span(name)
        plain = Stored(name, shard.path, begin, end, header.dtype, header.shape)
        if not is_packed(header.dtype):
            return plain
        beside = self._beside(name)
        if header.dtype == FP8:
            at = next(iter(self._scales(name, header, row)), None)
            if at is not None:
                scale, grid = at
                names = tuple(dict.fromkeys((scale.name, *beside)))
                return Stored(name, shard.path, begin, end, header.dtype, header.shape, scale, grid, companions=names)
            return plain
        packed = self._packed(name, header)
        if not packed:
            return plain
        return Stored(name, shard.path, begin, end, header.dtype, header.shape, packed=packed, companions=beside)

    def _beside(self, name: str) -> tuple[str, ...]:
        """What stands under the same stem and belongs to codes."""
        stem, part = split(name)
        if not part:
            return tuple(each for each in (f"{name}_scale_inv", f"{name}_scale") if each in self._found)
        wanted = (CERTAIN_COMPANIONS | _BESIDE) - CACHE_SCALES - {part}
        return tuple(each for last in sorted(wanted) if (each := f"{stem}.{last}") in self._found)

    def _packed(self, name: str, header: TensorHeader) -> str:
        """The format of codes that are not read here; empty for what is no codes."""
        stem, part = split(name)
        for convention in CONVENTIONS:
            if convention.codes != part or header.dtype not in convention.dtypes or convention.name == "FP8":
                continue
            held = self._found.get(f"{stem}.{convention.scale}")
            if held is not None and held[0].tensors[f"{stem}.{convention.scale}"].dtype in convention.scale_dtypes:
                return convention.name
        if name.endswith("_blocks") and f"{name.removesuffix('_blocks')}_scales" in self._found:
            return "MXFP4"
        return ""

    def _scales(self, name: str, header: TensorHeader, row: Row | None) -> Iterator[tuple[ScaleAt, Blocks]]:
        """The scales that a weight may have, the likeliest first, each with the blocks that they are of."""
        known = self._formats.codes(row)
        for scale in dict.fromkeys((known.scale(name), *_scale_names(name))):
            held = self._found.get(scale)
            if held is None or len(header.shape) < 2:
                continue
            shard = held[0]
            there = shard.tensors[scale]
            grid = _blocks(header.shape, there.shape, known.blocks) if there.dtype in _SCALES else None
            if grid is not None:
                yield ScaleAt(shard.path, *shard.span(scale), _grid(header.shape, grid), there.dtype, scale), grid


def _scale_names(name: str) -> Iterator[str]:
    stem, part = split(name)
    for codes, scale in _fp8_conventions():
        if codes == "*":
            yield scale.replace("*", name)
        elif codes == part:
            yield f"{stem}.{scale}"


@cache
def _fp8_conventions() -> tuple[tuple[str, str], ...]:
    return tuple((each.codes, each.scale) for each in CONVENTIONS if each.name == "FP8")


def _grid(shape: tuple[int, ...], of: Blocks) -> tuple[int, int]:
    """Rows and columns of the grid of blocks of a weight."""
    rows, columns = elements(shape[:-1]), shape[-1]
    return of.chunks * ceil(rows // of.chunks / of.shape[0]), ceil(columns / of.shape[1])


def _blocks(weight: tuple[int, ...], scale: tuple[int, ...], known: Blocks | None) -> Blocks | None:
    """The blocks that scales of that shape are of: the expected or declared ones, where these fit."""
    leading = elements(weight[:-2])
    if known is not None and weight[-2] % known.chunks == 0:
        of = Blocks(known.shape, known.powers_of_two, known.chunks * leading)
        expected = (*weight[:-2], *_grid(weight[-2:], known))
        if scale == expected:
            return of
    if elements(weight) == 0 or elements(scale) == 0:
        return None
    for block in blocks(weight, scale):
        whole = (block.rows, block.columns) == (0, 0) and elements(scale) == 1
        parts = 1 if whole else block.parts * leading
        if elements(weight[:-1]) % parts:
            continue
        of = Blocks((block.rows or WHOLE, block.columns or WHOLE), False, parts)
        if elements(_grid(weight, of)) == elements(scale):
            return of
    return None
