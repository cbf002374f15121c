"""The round trip of weight blocks: dequantise, quantise again by the published formula, compare.

For a block with largest |code| M and scale s the formula gives s' = max(448-ish M·s, 1e-4) / 448 in float32,
rounded up to a power of two with ue8m0, and to nearest where scales are stored as BF16. Where s' has the bits of s,
and s is a normal number, each code comes back: f32(f32(code·s) / s) is within two roundings of the code, and the next
E4M3 value is a thousand times further. So one float test for each block decides what is exact, without looking at its
codes again; what it does not decide is computed code by code, for the codes that occur. Source of the formula:
DeepSeek-V3's published quantisation, as docs/content.md states it.
"""

from typing import Any

import numpy as np
from numba import types

from auditor.content.kernels.compiled import compiled, kernel

# Where the counts of a weight's blocks stand; EXACT to UNDEFINED are the outcomes.
ZERO, EXACT, VALUE_EQUAL, CHANGED, UNDEFINED, DRIFTED, FOREIGN, UNSATURATED, OVERFLOWING, NARROW = range(10)
# Where the first block of a kind stands: its row, column, largest |code|; and its scale and error.
FIRST_NAN, FIRST_CHANGED, FIRST_FOREIGN, FIRST_OVERFLOWING, FIRST_OTHER = range(5)
LARGEST_ERROR = 5  # its place behind these
# How the formula's quotient becomes a scale.
FLOAT32, POWER_OF_TWO, BF16 = range(3)


@compiled
def _bits(value: Any) -> Any:
    return np.float32(value).view(np.uint32)


@compiled
def requantised_scale(magnitude: Any, scale: Any, rounding: Any) -> Any:
    """The scale that the published formula gives a block whose largest dequantised |weight| is |magnitude·scale|."""
    amax = max(abs(np.float32(magnitude * scale)), np.float32(1e-4))
    return _rounded(np.float32(amax / np.float32(448)), rounding)


@compiled
def _rounded(again: Any, rounding: Any) -> Any:
    if rounding == FLOAT32:
        return again
    bits = _bits(again)
    if rounding == BF16:
        even = (bits >> np.uint32(16)) & np.uint32(1)
        return np.uint32((bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)).view(np.float32)
    exponent = np.int64(bits >> np.uint32(23)) + (1 if bits & np.uint32(0x7FFFFF) else 0)
    return np.uint32(exponent << 23).view(np.float32)


@compiled
def _encoded(value: Any) -> Any:
    """The E4M3 code of a number that is not negative: to nearest, ties to even, saturating; NaN is 0x7F."""
    if value != value:
        return 127
    if value < np.float32(2.0**-6):
        return np.int64(np.rint(value * np.float32(512)))
    bits: Any = np.int64(_bits(value))
    return min(((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - (120 << 3), 126)


@compiled
def reproduce(present: Any, magnitudes: Any, scale: Any, rounding: Any) -> Any:
    """The round trip by arithmetic, for a block in which the codes `present` (by magnitude) occur.

    Returns the outcome (EXACT to UNDEFINED), the largest relative error and whether every code survives.
    """
    largest = 126
    while largest > 0 and not present[largest]:
        largest -= 1
    size = abs(scale)
    if present[127] or not np.isfinite(np.float32(magnitudes[largest] * size)) or not np.isfinite(size):
        return UNDEFINED, 0.0, False
    again = requantised_scale(magnitudes[largest], size, rounding)
    survive: Any = not _bits(scale) >> np.uint32(31)
    equal, error = True, 0.0
    for code in range(1, largest + 1):
        if not present[code]:
            continue
        before = np.float32(magnitudes[code] * size)
        after_code = _encoded(np.float32(before / again))
        after = np.float32(magnitudes[after_code] * again)
        survive = survive and after_code == code
        if after != before:
            equal = False
            error = max(error, abs(np.float64(after) - np.float64(before)) / np.float64(before))
    if equal:
        same = survive and _bits(again) == _bits(scale)
        return (EXACT if same else VALUE_EQUAL), 0.0, survive
    return CHANGED, error, survive


@compiled
def shortcut(largest: Any, scale: Any, rounding: Any) -> Any:
    """The outcome from largest |code| and scale alone, or -1 where that takes the codes."""
    if largest == 127 or not np.isfinite(scale):
        return UNDEFINED
    if largest == 0:
        clamped = _rounded(np.float32(np.float32(1e-4) / np.float32(448)), rounding)
        return EXACT if _bits(scale) == _bits(clamped) else VALUE_EQUAL
    return -1


@compiled
def decided(largest: Any, scale: Any, rounding: Any, magnitude: Any) -> Any:
    """The outcome where largest |code| (`magnitude` as a number), scale and formula are enough, or -1."""
    outcome = shortcut(largest, scale, rounding)
    if outcome < 0 and scale >= np.float32(2.0**-126):
        outcome = EXACT if _bits(requantised_scale(magnitude, scale, rounding)) == _bits(scale) else -1
    return outcome


@kernel(
    (
        types.int8[:, ::1], types.uint8[:, ::1], types.float32[:, ::1], types.int64, types.float32[::1],
        types.boolean[:, ::1],
    )
)  # fmt: skip
def mark_undecided(
    signed_rc: Any, unsigned_rc: Any, scale_rc: Any, rounding: int, magnitudes: Any, where_rc: Any
) -> int:
    """Mark the blocks of which the codes have to be looked at; how many there are."""
    count = 0
    for r in range(signed_rc.shape[0]):
        plain = _is_plain(signed_rc[r], unsigned_rc[r], scale_rc[r], rounding)
        for c in range(signed_rc.shape[1]):
            largest: Any = max(np.int64(signed_rc[r, c]), np.int64(unsigned_rc[r, c] & np.uint8(127)))
            where_rc[r, c] = not plain and decided(largest, scale_rc[r, c], rounding, magnitudes[largest]) < 0
            count += where_rc[r, c]
    return count


@kernel(
    (
        types.uint8[::1], types.int64, types.int64, types.int64, types.int8[:, ::1], types.uint8[:, ::1],
        types.float32[:, ::1], types.int8[:, ::1], types.float64[:, ::1], types.boolean[:, ::1],
        types.int64, types.int64, types.float32[::1],
        types.int64[::1], types.int64[::1], types.int64[:, ::1], types.float64[:, ::1],
    )
)  # fmt: skip
def judge_strip(
    strip: Any,
    columns: int,
    block_rows: int,
    block_columns: int,
    signed_rc: Any,
    unsigned_rc: Any,
    scale_rc: Any,
    outcome_rc: Any,
    error_rc: Any,
    survives_rc: Any,
    rounding: int,
    first_row: int,
    magnitudes: Any,
    counts: Any,
    largest_codes: Any,
    firsts: Any,
    measures: Any,
) -> None:
    """Judge a strip's blocks, which have their own rows of scales. `first_row` is the first of them in the weight.

    What another device has found of blocks is in `outcome_rc`, -1 where it has not, and beside it; or those are empty.
    `counts`, `largest_codes`, `firsts` (5 × 3, rows begin at -1) and `measures` (5 × 2; and in row 5 the largest
    error) are added to.
    """
    present = np.zeros(128, np.bool_)
    rows = strip.size // columns
    for r in range(signed_rc.shape[0]):
        if _is_plain(signed_rc[r], unsigned_rc[r], scale_rc[r], rounding):
            largest_codes[126] += signed_rc.shape[1]
            counts[EXACT] += signed_rc.shape[1]
            continue
        for c in range(signed_rc.shape[1]):
            largest: Any = max(np.int64(signed_rc[r, c]), np.int64(unsigned_rc[r, c] & np.uint8(127)))
            scale = scale_rc[r, c]
            largest_codes[largest] += 1
            counts[ZERO] += largest == 0
            outcome, error, survive = decided(largest, scale, rounding, magnitudes[largest]), 0.0, True
            if outcome < 0 and outcome_rc.size and outcome_rc[r, c] >= 0:
                outcome, error, survive = np.int64(outcome_rc[r, c]), error_rc[r, c], survives_rc[r, c]
            elif outcome < 0:
                _mark_present(
                    strip, columns, r * block_rows, min((r + 1) * block_rows, rows), c * block_columns,
                    min((c + 1) * block_columns, columns), present,
                )  # fmt: skip
                outcome, error, survive = reproduce(present, magnitudes, scale, rounding)
            counts[outcome] += 1
            measures[LARGEST_ERROR, 0] = max(measures[LARGEST_ERROR, 0], error)
            counts[DRIFTED] += outcome == CHANGED and survive
            foreign: Any = outcome in (VALUE_EQUAL, CHANGED) and not _left_by_rounding_up(largest, scale)
            if foreign and rounding != POWER_OF_TWO:
                foreign = not _left_by_another_formula(largest, scale)
            narrow: Any = foreign and _left_within_240(largest, scale)
            counts[FOREIGN] += foreign
            counts[UNSATURATED] += foreign and largest < (0x76 if rounding == POWER_OF_TWO else 0x7E)
            counts[NARROW] += narrow
            if foreign and not narrow and firsts[FIRST_OTHER, 0] < 0:
                _note(firsts, measures, FIRST_OTHER, first_row + r, c, largest, scale, error)
            overflowing = outcome == UNDEFINED and largest != 127 and np.isfinite(scale)
            counts[OVERFLOWING] += overflowing
            if overflowing and firsts[FIRST_OVERFLOWING, 0] < 0:
                _note(firsts, measures, FIRST_OVERFLOWING, first_row + r, c, largest, scale, error)
            if largest == 127 and firsts[FIRST_NAN, 0] < 0:
                _note(firsts, measures, FIRST_NAN, first_row + r, c, largest, scale, error)
            if outcome == CHANGED and firsts[FIRST_CHANGED, 0] < 0:
                _note(firsts, measures, FIRST_CHANGED, first_row + r, c, largest, scale, error)
            if foreign and firsts[FIRST_FOREIGN, 0] < 0:
                _note(firsts, measures, FIRST_FOREIGN, first_row + r, c, largest, scale, error)


@compiled
def _left_by_rounding_up(largest: Any, scale: Any) -> Any:
    """Whether a scale that is rounded up to a power of two leaves such a block, whether or not a config says so.

    The largest code is above 224 before it is rounded, and at the clamp it may be any. A block of zeros without a clamp
    gets the least power that is stored, or 1.
    """
    if largest == 0 and (scale == np.float32(2.0**-127) or scale == np.float32(1)):
        return True
    if not scale >= np.float32(2.0**-126) or _bits(scale) & np.uint32(0x7FFFFF):
        return False
    return largest >= 0x76 or scale == np.float32(2.0**-22)


@compiled
def _left_by_another_formula(largest: Any, scale: Any) -> Any:
    """Whether a formula in use that is not the published one leaves such a block.

    1 / (448 / amax), amax times 1 / 448 and divisions that a GPU approximates move a scale by its last bits and leave
    the largest code where it is; some have no clamp; one without takes 1 for the scale of zeros.
    """
    if not scale >= np.float32(2.0**-126):
        return False
    clamped = np.float32(np.float32(1e-4) / np.float32(448))
    if abs(np.int64(_bits(scale)) - np.int64(_bits(clamped))) <= 1:
        return True
    return largest == 0x7E or (largest == 0 and (scale < clamped or scale == np.float32(1)))


@compiled
def _left_within_240(largest: Any, scale: Any) -> Any:
    """Whether such a block is left where 240, the largest value of E4M3FNUZ, stands in the place of 448."""
    if largest > 0x77 or not scale >= np.float32(2.0**-126):
        return False
    power: Any = not _bits(scale) & np.uint32(0x7FFFFF)
    return largest >= (0x6E if power else 0x76) or scale <= np.float32(2.0**-21)  # 1e-4 / 240, rounded up


@compiled
def _is_plain(signed_c: Any, unsigned_c: Any, scale_c: Any, rounding: Any) -> Any:
    """Whether a row of blocks has nothing but blocks that reach 448 and are exact, as a release's rows are.

    Without a branch, so that it is done for many blocks at once; what is not plain is looked at block by block.
    """
    plain: Any = True
    for c in range(scale_c.size):
        largest = max(np.int32(signed_c[c]), np.int32(unsigned_c[c] & np.uint8(127)))
        again = requantised_scale(np.float32(448), scale_c[c], rounding)
        usable = (scale_c[c] >= np.float32(2.0**-126)) & (scale_c[c] < np.float32(np.inf))
        plain &= (largest == 126) & usable & (_bits(again) == _bits(scale_c[c]))
    return plain


@compiled
def _note(firsts: Any, measures: Any, kind: int, row: int, column: int, largest: int, scale: Any, error: float) -> None:
    firsts[kind, 0] = row
    firsts[kind, 1] = column
    firsts[kind, 2] = largest
    measures[kind, 0] = scale
    measures[kind, 1] = error


@compiled
def _mark_present(strip: Any, columns: int, top: int, bottom: int, left: int, right: int, present: Any) -> None:
    present[:] = False
    for row in range(top, bottom):
        for code in strip[row * columns + left : row * columns + right]:
            present[code & np.uint8(127)] = True
