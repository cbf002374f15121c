"""The values of one pair of weights, measured strip after strip, and which relation they have."""

from collections.abc import Iterable
from math import ceil, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.content.device import Bytes
from auditor.content.fp8 import CLAMP, Floats, decode_table, encode_bf16
from auditor.content.kernels import compare
from auditor.conversion.edges import WIDTH, Edges
from auditor.conversion.facts import Pair, PairValues, Place, Stored
from auditor.conversion.outcome import (
    BOUNDS,
    SLACK,
    STORAGE,
    Measured,
    Outcome,
    blocks_apart,
    fault_of,
    likeness_of,
    outcome_of,
)
from auditor.conversion.plan import aligned
from auditor.conversion.recoded import CODES, differences, recoded
from auditor.conversion.streams import Stream
from auditor.format.dtypes import FP8

Grid = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

_BLOCK = 128  # of floats on both sides, which have no blocks of their own
_LEAST_WIDTH = 16  # of blocks, where looking at a row of each pays
_TABLE = decode_table()
_FORMS = {"F32": compare.FLOAT32, "BF16": compare.BFLOAT16, "F16": compare.HALF}
# The least normal number.
_FLOORS = {"F32": 2.0**-126, "BF16": 2.0**-126, "F16": 2.0**-14}
_LEAST_NORMAL, _LEAST = np.float32(2.0**-6), np.float32(2.0**-9)  # of E4M3
READ = (*_FORMS, FP8)  # dtypes whose values are compared


def told(
    pair: Pair, outcome: Outcome, *, reason: str = "", first: Place | None = None, read: int = 0, **more: Any
) -> PairValues:
    """What is said of a pair."""
    return PairValues(
        old=pair.old.name,
        new=pair.new.name,
        old_file=pair.old.file,
        new_file=pair.new.file,
        old_format=pair.old.format,
        new_format=pair.new.format,
        shape=pair.new.shape,
        how=pair.how,
        relation=outcome.relation,
        elements=0 if reason else elements_of(pair),
        formula=outcome.formula,
        formulas=outcome.formulas,
        fault=outcome.fault,
        reason=reason,
        first=first,
        bytes_read=read,
        **more,
    )


def elements_of(pair: Pair) -> int:
    rows = sum(b - a for a, b in pair.rows) if pair.rows else pair.old.rows
    return rows * pair.old.columns


class Values:
    """The values of one pair, strip after strip. What is indexed by 0 and 1 is of the old and the new side.

    Blocks are those of the new side's codes, else of the old side's, else squares. `_measured` are those of strips
    that were looked at value by value, as their bytes do not say it all.
    """

    def __init__(self, streams: tuple[Stream, Stream], pair: Pair) -> None:
        self._pair = pair
        self._sides = (pair.old, pair.new)
        self._scales = _scales_of(streams[0], pair.old), _scales_of(streams[1], pair.new)
        self._scale_rows = tuple(None if each.blocks is None else _block_rows(each) for each in self._sides)
        self._rows, self._width, shape = _grid(pair)
        self._read = sum(each.scale.bytes for each in self._sides if each.scale is not None)
        self._same_dtype = pair.old.dtype == pair.new.dtype
        self._same_codes = self._same_dtype
        self._same_scales = _same_bits(*self._scales)
        self._quick = self._in_bf16 = True  # so far: a cast by its scales, a cast by these in BF16
        self._seen, self._measured = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        self._counts, self._measures = np.zeros(compare.COUNTS, np.int64), np.zeros(compare.MEASURES)
        self._formulas = np.zeros((2, compare.FORMULAS), np.int64)
        self._same_blocks = _divided(pair.old) == _divided(pair.new)
        coded = all(each.dtype == FP8 and each.scale is not None and each.blocks is not None for each in self._sides)
        self._recodes = coded and self._same_blocks and aligned(pair) and self._width >= _LEAST_WIDTH
        # Two sides of codes may have had BF16 between them.
        self._open = [True, self._same_dtype]  # whether all blocks so far follow by some formula, by either way
        self._sums = np.zeros((*shape, compare.SUMS))
        self._amax = np.zeros(shape, np.float32)
        self._first: dict[int, Place] = {}
        self._edges = Edges(pair)

    def compared(self, runs: Iterable[tuple[int, Bytes, Bytes]]) -> PairValues:
        """What follows from every strip of both sides, each with its first row."""
        for top, one, other in runs:
            self._read += one.size + other.size
            self._strip(one, other, top)
        found = Measured(
            self._pair, self._scales, self._same_codes, self._same_scales, self._same_blocks, self._in_bf16,
            self._seen, self._measured, self._counts, self._formulas, self._sums, self._amax,
        )  # fmt: skip
        outcome = outcome_of(found)
        if outcome.relation != "different":
            exact = outcome.relation in ("same_bytes", "same_values")
            return self._told(outcome, None if exact else self._first.get(compare.FIRST_UNEQUAL))
        if not outcome.fault:
            outcome = outcome._replace(fault=fault_of(found, self._edges))
        return self._told(
            outcome,
            self._first.get(compare.FIRST_BEYOND) or self._first.get(compare.FIRST_UNEQUAL),
            blocks_unlike=blocks_apart(found),
            likeness=likeness_of(found),
            old_sketch=self._edges.sketch(0),
            new_sketch=self._edges.sketch(1),
        )

    def _told(self, outcome: Outcome, first: Place | None, **more: Any) -> PairValues:
        return told(
            self._pair,
            outcome,
            first=first,
            read=self._read,
            unequal=int(self._counts[compare.UNEQUAL]),
            beyond=int(self._counts[compare.BEYOND]),
            largest=float(self._measures[compare.LARGEST]),
            rms=sqrt(float(self._measures[compare.SQUARES]) / max(1, elements_of(self._pair))),
            blocks=int(self._seen.sum()),
            **more,
        )

    # --- one strip ---

    def _strip(self, one: Bytes, other: Bytes, top: int) -> None:
        bottom = top + one.size // self._pair.old.row_bytes
        rows = self._rows[top:bottom]
        self._seen[rows[0] : rows[-1] + 1] = True
        self._look_at_edges(one, other, top, bottom)
        if self._same_dtype:
            alike = same(one, other)
            self._same_codes &= alike
            if alike and self._same_scales:
                return
        elif self._quick:
            self._quick = self._agrees(one, other, top, bottom, self._scales[0 if self._pair.old.dtype == FP8 else 1])
            if self._quick:
                return
        if self._in_bf16:
            self._in_bf16 = self._agrees(one, other, top, bottom, _in_bf16(self._scales[0]))
        self._measured[rows[0] : rows[-1] + 1] = True
        if not self._measure_codes(one, other, top, rows):
            self._measure(one, other, top, bottom)

    def _look_at_edges(self, one: Bytes, other: Bytes, top: int, bottom: int) -> None:
        def part(side: int, run: Bytes, high: int, wide: int) -> Floats:
            stored = self._sides[side]
            raw = run.view(_ARRAYS[stored.dtype]).reshape(-1, stored.columns)[:high, :wide]
            values = _widened(raw, stored.dtype)
            scale, rows = self._scales[side], self._scale_rows[side]
            if scale is None or rows is None or stored.blocks is None:
                return values
            columns = np.arange(raw.shape[1]) // stored.blocks.shape[1]
            with np.errstate(all="ignore"):
                scaled: Floats = values * scale[np.ix_(rows[top : top + len(raw)], columns)]
            return scaled

        if self._edges.needs_top:
            wide = self._pair.old.columns
            self._edges.add_top(part(0, one, WIDTH, wide), part(1, other, WIDTH, wide))
        self._edges.add(part(0, one, bottom - top, WIDTH), part(1, other, bottom - top, WIDTH))

    def _agrees(self, one: Bytes, other: Bytes, top: int, bottom: int, scale: Floats | None) -> bool:
        """The short way of a cast: FP8 codes whose values, by such scales, have the bits of the other side."""
        coded, wide = self._sides
        rows = self._scale_rows[0]
        if coded.dtype != FP8:  # the other way round
            coded, wide, one, other, rows = wide, coded, other, one, self._scale_rows[1]
        if scale is None or rows is None or coded.blocks is None or wide.dtype not in ("BF16", "F32"):
            return False
        width = min(coded.blocks.shape[1], coded.columns)
        if width < _LEAST_WIDTH:
            return False
        others = other.view(_ARRAYS[wide.dtype])
        return bool(compare.agree(one, coded.columns, rows[top:bottom], scale, width, others, _FORMS[wide.dtype]))

    def _values(self, side: int, run: Bytes, top: int, bottom: int) -> Floats:
        """A strip's values as float32."""
        stored, scale, rows = self._sides[side], self._scales[side], self._scale_rows[side]
        if stored.dtype == "BF16":
            values = np.empty(run.size // 2, np.float32)
            compare.widen(run.view(np.uint16), values)
            return values
        if stored.dtype != FP8 or scale is None or rows is None or stored.blocks is None:
            return np.ascontiguousarray(_widened(run.view(_ARRAYS[stored.dtype]), stored.dtype))
        values = np.empty(run.size, np.float32)
        width = min(stored.blocks.shape[1], stored.columns)
        compare.dequantise(run, stored.columns, rows[top:bottom], scale, width, _TABLE, values)
        return values

    def _measure(self, one: Bytes, other: Bytes, top: int, bottom: int) -> None:
        pair, rows = self._pair, self._rows[top:bottom]
        old, new = self._values(0, one, top, bottom), self._values(1, other, top, bottom)
        self._follow((one, other), (old, new), rows, pair.old.columns, self._width)
        firsts = np.full(compare.FIRSTS, -1, np.int64)
        compare.measure(
            old, new, pair.old.columns, rows, self._width, self._floors(),
            _FORMS.get(pair.new.dtype, -1), _FORMS.get(pair.old.dtype, -1), BOUNDS[pair.new.dtype] * SLACK,
            self._counts, self._measures, firsts, self._sums,
        )  # fmt: skip
        for kind, index in enumerate(firsts.tolist()):
            if index >= 0 and kind not in self._first:
                self._first[kind] = self._at(index, top, float(old[index]), float(new[index]))

    def _measure_codes(self, one: Bytes, other: Bytes, top: int, rows: Rows) -> bool:
        """The same of codes that became others, each of a block one: by those that occur. False where it cannot be."""
        if not self._recodes:
            return False
        pair, width = self._pair, self._width
        first, last = int(rows[0]), int(rows[-1]) + 1
        scales = self._scales[0][first:last], self._scales[1][first:last]  # type: ignore[index]  # codes have them
        found = recoded(one, other, pair.old.columns, rows, width, scales)
        if found is None:
            return False
        values, grid = (found.old_rck.reshape(-1), found.new_rck.reshape(-1)), np.arange(first, last)
        columns = found.code_rck.shape[1] * CODES
        compare.find_largest(values[0], columns, grid, CODES, self._amax)
        bound = BOUNDS[FP8] * SLACK
        seen = differences(found, one, pair.old.columns, rows, width, self._floors()[first:last], bound)
        if seen is None:
            return False
        self._follow((found.code_rck.reshape(-1),) * 2, values, grid, columns, CODES)
        for kind in (compare.UNEQUAL, compare.REVERSE, compare.CHANGED):
            self._counts[kind] += seen.unequal
        self._measures[compare.SQUARES] += seen.squares
        self._measures[compare.LARGEST] = max(self._measures[compare.LARGEST], seen.largest)
        self._sums[first:last] += seen.sums_rcs
        if seen.first >= 0 and compare.FIRST_UNEQUAL not in self._first:
            r, c = rows[seen.first // pair.old.columns] - first, seen.first % pair.old.columns // width
            place = r, c, one[seen.first]
            self._first[compare.FIRST_UNEQUAL] = self._at(
                seen.first, top, float(found.old_rck[place]), float(found.new_rck[place])
            )
        return True

    def _follow(
        self, runs: tuple[Bytes, Bytes], values: tuple[Floats, Floats], rows: Rows, columns: int, width: int
    ) -> None:
        """By which formulas a strip's codes follow from the other side's values."""
        side = 1 if self._pair.new.dtype == FP8 else 0
        coded, scale = self._sides[side], self._scales[side]
        if coded.dtype != FP8 or scale is None or coded.scale is None or not aligned(self._pair):
            return
        source = values[1 - side]
        storage = STORAGE.get(coded.scale.dtype, compare.AS_FLOAT32)
        if side == 1:
            compare.find_largest(source, columns, rows, width, self._amax)
        for way, counts in enumerate(self._formulas):
            if not self._open[way]:
                continue
            each = source if way == 0 else _bf16(source)
            compare.follow(each, runs[side], columns, rows, width, scale, storage, counts)
            # Where some block does not follow, the tensor does not, and no other block is looked at.
            self._open[way] = bool(counts.max() == self._measured.sum())

    def _floors(self) -> Floats:
        """The least normal number of the new format, for each block, or the least of the old side's codes there."""
        (old, new), (of_old, scale) = self._sides, self._scales
        if new.dtype != FP8:
            floor = np.full(self._amax.shape, _FLOORS[new.dtype], np.float32)
            if old.dtype == FP8 and of_old is not None and of_old.shape == floor.shape:
                floor = np.fmax(floor, np.where(np.isfinite(of_old), np.abs(of_old), 0) * _LEAST, dtype=np.float32)
            return np.require(floor, np.float32, ["C", "W"])
        if scale is None:
            return np.full(self._amax.shape, _LEAST_NORMAL, np.float32)
        usable = np.where(np.isfinite(scale), np.abs(scale), np.float32(0))
        if aligned(self._pair):
            # A scale that is larger than it need be is no excuse for what it rounds to nothing.
            usable = np.minimum(usable, np.maximum(self._amax, CLAMP) / np.float32(448) * np.float32(2))
        return np.require(np.maximum(usable * _LEAST_NORMAL, np.float32(2.0**-126)), np.float32, ["C", "W"])

    def _at(self, index: int, top: int, old: float, new: float) -> Place:
        stored = self._pair.new
        row, column = divmod(index, stored.columns)
        width = stored.row_bytes // max(1, stored.columns)
        begin = stored.begin + (top + row) * stored.row_bytes + column * width
        return Place(top + row, column, f"{old:.6g}", f"{new:.6g}", begin, begin + width)


_ARRAYS: dict[str, Any] = {"BF16": np.uint16, "F16": np.float16, "F32": np.uint32, FP8: np.uint8}


def _widened(raw: npt.NDArray[Any], dtype: str) -> Floats:
    """Stored elements as float32, codes without their scales."""
    if dtype == "BF16":
        return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "F16":
        return raw.astype(np.float32)
    return _TABLE[raw] if dtype == FP8 else raw.view(np.float32)


def _bf16(values: Floats) -> Floats:
    return (encode_bf16(values).astype(np.uint32) << np.uint32(16)).view(np.float32)


def same(one: Bytes, other: Bytes) -> bool:
    """Whether two runs of as many bytes are the same."""
    whole = one.size // 8 * 8
    return bool(compare.same(one[:whole].view(np.uint64), other[:whole].view(np.uint64))) and bool(
        compare.same(one[whole:], other[whole:])
    )


def _scales_of(stream: Stream, side: Stored) -> Floats | None:
    return None if side.scale is None else np.require(stream.scales(side.scale), np.float32, ["C", "W"])


def _in_bf16(scale: Floats | None) -> Floats | None:
    return None if scale is None else np.require(_bf16(scale), np.float32, ["C", "W"])


def _same_bits(one: Floats | None, other: Floats | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and bool((one.view(np.uint32) == other.view(np.uint32)).all())


def _grid(pair: Pair) -> tuple[Rows, int, tuple[int, int]]:
    """The row of blocks of each row, how wide blocks are, and how many there are."""
    for stored in (pair.new, pair.old):
        if stored.scale is not None and stored.blocks is not None:
            return _block_rows(stored), min(stored.blocks.shape[1], stored.columns), stored.scale.shape
    rows, columns = pair.old.rows, pair.old.columns
    return np.arange(rows) // _BLOCK, _BLOCK, (max(1, ceil(rows / _BLOCK)), max(1, ceil(columns / _BLOCK)))


def _divided(stored: Stored) -> tuple[tuple[int, int], int] | None:
    return None if stored.blocks is None else (stored.blocks.shape, stored.blocks.chunks)


def _block_rows(stored: Stored) -> Rows:
    assert stored.blocks is not None
    chunk = max(1, stored.rows // stored.blocks.chunks)
    row = np.arange(stored.rows)
    found: Rows = row // chunk * ceil(chunk / stored.blocks.shape[0]) + row % chunk // stored.blocks.shape[0]
    return found
