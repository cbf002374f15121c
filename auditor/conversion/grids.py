"""What was done to the scales of a weight that came out wrong, told by each block's ratio of new to old values.

Codes times a wrong scale differ from codes times the right one by one factor for each block: where every block is the
other side's times a factor, these factors say which scales were used in the place of which.
"""

from itertools import product

import numpy as np
import numpy.typing as npt

from auditor.content.fp8 import encode_bf16
from auditor.content.kernels import compare

Grid = npt.NDArray[np.float64]

ALIKE = 0.995  # the least correlation of a block that is the other's times a factor, its rounding aside
_FINE = 2.0**-10  # what tells a scale from the nearest of BF16
_LEAST = 2  # blocks that are told by
_SHIFTS = 4  # blocks that a grid may have moved by, each way


def fault_of(sums: Grid, right: Grid, *, coded: str, tolerance: float) -> str:
    """What was done, in words; empty where nothing is recognised.

    `sums` are those of `measure` (r × c × 3), `right` the scales that are as they should be, `coded` the side whose
    codes these are of. `tolerance` is what the new side's rounding may move a ratio by.
    """
    old, new, both = (sums[:, :, place] for place in (compare.OLD, compare.NEW, compare.BOTH))
    seen = (old > 0) & (new > 0) & np.isfinite(old) & np.isfinite(new) & (right > 0) & np.isfinite(right)
    if not seen.any():
        return ""
    with np.errstate(all="ignore"):
        likeness = np.where(seen, both / np.sqrt(old * new), 1.0)
        ratio = np.where(seen, both / np.where(seen, old, 1.0), 1.0)
    if likeness[seen].min() < ALIKE:
        return ""
    used = np.where(seen, ratio * right, np.nan)
    return _named(used, right, seen, coded, tolerance)


def _named(used: Grid, right: Grid, seen: npt.NDArray[np.bool_], coded: str, tolerance: float) -> str:
    def close(wanted: Grid) -> bool:
        with np.errstate(all="ignore"):
            return bool((np.abs(used - wanted)[seen] <= tolerance * np.abs(wanted)[seen]).all())

    if close(right):
        return ""  # it is within blocks that values differ
    if coded == "old" and close(np.ones_like(right)):
        return "the raw codes, without their scales"
    if close(right * right):
        return "scales applied twice"
    with np.errstate(all="ignore"):
        if close(1 / right):
            return "scales inverted"
    rounded = (encode_bf16(right.astype(np.float32)).astype(np.uint32) << np.uint32(16)).view(np.float32)
    if tolerance < _FINE and close(rounded.astype(np.float64)):
        return "scales rounded through BF16"
    if int(seen.sum()) < _LEAST or np.ptp(right[seen]) <= 4 * tolerance * right[seen].max():
        return _constant(used, right, seen, tolerance)
    transposed = [right.T] if right.shape[0] == right.shape[1] else []
    transposed += [right.T.reshape(right.shape), right.reshape(right.shape[::-1]).T]
    if min(right.shape) > 1 and any(close(each) for each in transposed):
        return "a transposed grid of scales"
    shift = _shift(used, right, seen, tolerance)
    if shift:
        return shift
    if bool(seen.all()) and np.allclose(np.sort(used, axis=None), np.sort(right, axis=None), rtol=tolerance, atol=0):
        return "a permuted grid of scales: each is another block's"
    constant = _constant(used, right, seen, tolerance)
    return constant or "other scales: every block is the other side's times a factor of its own"


def _constant(used: Grid, right: Grid, seen: npt.NDArray[np.bool_], tolerance: float) -> str:
    ratio = (used / right)[seen]
    middle = float(np.median(ratio))
    if np.ptp(ratio) > 2 * tolerance * abs(middle) or abs(middle - 1) <= tolerance:
        return ""
    return f"every value times {middle:.3g}"


def _shift(used: Grid, right: Grid, seen: npt.NDArray[np.bool_], tolerance: float) -> str:
    """By how many blocks a grid has moved, told by what overlaps."""
    rows, columns = right.shape
    ways = [each for each in product(range(-_SHIFTS, _SHIFTS + 1), repeat=2) if each != (0, 0)]
    for down, along in sorted(ways, key=lambda each: abs(each[0]) + abs(each[1])):
        if abs(down) >= rows or abs(along) >= columns:
            continue
        here = (slice(max(0, down), rows + min(0, down)), slice(max(0, along), columns + min(0, along)))
        there = (slice(max(0, -down), rows + min(0, -down)), slice(max(0, -along), columns + min(0, -along)))
        one, other, both = used[here], right[there], seen[here] & seen[there]
        if int(both.sum()) * 2 < int(seen.sum()) or int(both.sum()) < _LEAST:
            continue
        if (np.abs(one - other)[both] <= tolerance * other[both]).all() and np.ptp(other[both]) > 0:
            return (
                f"a grid of scales shifted by {_blocks(down, 'down', 'up')}{_blocks(along, 'right', 'left')}".rstrip()
            )
    return ""


def _blocks(count: int, ahead: str, back: str) -> str:
    if not count:
        return ""
    return f"{abs(count)} {'block' if abs(count) == 1 else 'blocks'} {ahead if count > 0 else back} "
