"""Two sides of a conversion, strip beside strip, for numba to compile: equality, errors, and formulas of quantisation.

Shapes: R and C are a strip's rows and columns, r and c the blocks of a whole weight. `grid_rows` has the row of blocks
of each row of a strip, so that blocks may begin anew wherever they do. Values are float32, which BF16, F16 and
FP8 × scale are exactly, but for the product's own rounding.
"""

from typing import Any

import numpy as np
from numba import types

from auditor.content.kernels.compiled import compiled, kernel

# How a value becomes one of a narrower format.
FLOAT32, BFLOAT16, HALF = range(3)
# What `measure` counts: elements that are not the other side's after the stated rounding; after the rounding the other
# way round; after cutting off; after rounding through BF16; that are another value at all; beyond the format's bound;
# and numbers that became none, or the reverse.
UNEQUAL, REVERSE, CUT, THROUGH_BF16, CHANGED, BEYOND, NOT_FINITE, COUNTS = range(8)
# What it measures: the largest relative error, and the sum of their squares.
LARGEST, SQUARES, MEASURES = range(3)
# Which element comes first: that is not equal, and that is beyond the bound.
FIRST_UNEQUAL, FIRST_BEYOND, FIRSTS = range(3)
# Sums over a block: of old squared, of new squared, and of their products.
OLD, NEW, BOTH, SUMS = range(4)
# Formulas that a block's scale and codes may follow from its values, in the order in which they are named.
(
    PUBLISHED, UNCLAMPED, RECIPROCAL, INVERTED, DIVIDED, POWER, POWER_UNCLAMPED, TIMES_INVERSE, OCP, IN_BF16,
    SCALE_IN_BF16, SCALE_IN_F16, FORMULAS,
) = range(13)  # fmt: skip
# What scales are stored as.
AS_FLOAT32, AS_BFLOAT16, AS_HALF, AS_POWER = range(4)


@compiled
def _bits(value: Any) -> Any:
    return np.float32(value).view(np.uint32)


@compiled
def _from_bits(bits: Any) -> Any:
    return np.uint32(bits).view(np.float32)


@compiled
def _bfloat16(value: Any) -> Any:
    """To the nearest of BF16, ties to even; NaN stays."""
    bits = _bits(value)
    if bits & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000):
        return np.float32(value)
    return _from_bits((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000))


@compiled
def _half(value: Any) -> Any:
    """To the nearest of F16, ties to even; NaN stays."""
    bits = _bits(value)
    sign, magnitude = bits & np.uint32(0x80000000), bits & np.uint32(0x7FFFFFFF)
    if magnitude > np.uint32(0x7F800000):
        return np.float32(value)
    if magnitude >= np.uint32(0x477FF000):  # 65,520: what rounds to more than the largest
        return _from_bits(sign | np.uint32(0x7F800000))
    if magnitude < np.uint32(0x38800000):  # below 2^-14: multiples of 2^-24
        return np.float32(np.rint(np.float32(value) * np.float32(2.0**24)) * np.float32(2.0**-24))
    even = (magnitude >> np.uint32(13)) & np.uint32(1)
    return _from_bits(sign | ((magnitude + np.uint32(0xFFF) + even) & np.uint32(0xFFFFE000)))


@compiled
def _nearest(value: Any, form: Any) -> Any:
    if form == BFLOAT16:
        return _bfloat16(value)
    if form == HALF:
        return _half(value)
    return np.float32(value)


@compiled
def _cut(value: Any, form: Any) -> Any:
    """The same towards zero, of normal numbers."""
    if form == BFLOAT16:
        return _from_bits(_bits(value) & np.uint32(0xFFFF0000))
    if form == HALF:
        return _from_bits(_bits(value) & np.uint32(0xFFFFE000))
    return np.float32(value)


@compiled
def _differ(one: Any, other: Any) -> Any:
    """Whether two values are not the same; of NaN there is one, and of zero."""
    return (one != other) & ((one == one) | (other == other))


@kernel((types.uint8[::1], types.uint8[::1]))
def same_bytes(one: Any, other: Any) -> bool:
    """Whether two runs of as many bytes are the same; looks at a page at a time."""
    position, size = 0, one.size
    while position < size:
        stop = min(size, position + 4096)
        differing = np.uint8(0)
        for k in range(position, stop):
            differing |= one[k] ^ other[k]
        if differing:
            return False
        position = stop
    return True


@kernel((types.uint16[::1], types.float32[::1]))
def widen(codes: Any, values: Any) -> None:
    """BF16 as float32."""
    for k in range(codes.size):
        values[k] = _from_bits(np.uint32(codes[k]) << np.uint32(16))


@kernel(
    (types.uint8[::1], types.int64, types.int64[::1], types.float32[:, ::1], types.int64, types.float32[::1],
     types.float32[::1])
)  # fmt: skip
def dequantise(codes: Any, columns: int, grid_rows: Any, scale_rc: Any, width: int, table: Any, values: Any) -> None:
    """float32(code) × scale of its block, `width` columns wide."""
    for row in range(grid_rows.size):
        for c in range(scale_rc.shape[1]):
            scale = scale_rc[grid_rows[row], c]
            for k in range(row * columns + c * width, row * columns + min((c + 1) * width, columns)):
                values[k] = table[codes[k]] * scale


@kernel(
    *(
        (types.uint8[::1], types.int64, types.int64[::1], types.float32[:, ::1], types.int64, types.float32[::1],
         other[::1], types.int64)
        for other in (types.uint16, types.uint32)
    )
)  # fmt: skip
def agree(
    codes: Any, columns: int, grid_rows: Any, scale_rc: Any, width: int, table: Any, others: Any, form: int
) -> bool:
    """Whether code × scale, rounded to nearest even, has the bits of the other side in every element of a strip.

    Each of a block's 256 values is made once; NaN and zeros of the other sign are not looked at more closely.
    """
    rows = grid_rows.size
    shift = np.uint32(16) if form == BFLOAT16 else np.uint32(0)
    made = np.empty(256, others.dtype)
    as_bits = others.dtype.type
    top = 0
    while top < rows:
        bottom = top + 1
        while bottom < rows and grid_rows[bottom] == grid_rows[top]:
            bottom += 1
        for c in range(scale_rc.shape[1]):
            scale = scale_rc[grid_rows[top], c]
            for code in range(256):
                made[code] = as_bits(_bits(_nearest(table[code] * scale, form)) >> shift)
            left, right = c * width, min((c + 1) * width, columns)
            differing = as_bits(0)
            for row in range(top, bottom):
                at = row * columns
                for k in range(at + left, at + right):
                    differing |= made[codes[k]] ^ others[k]
            if differing:
                return False
        top = bottom
    return True


@kernel(
    (
        types.float32[::1], types.float32[::1], types.int64, types.int64[::1], types.int64, types.float32[:, ::1],
        types.int64, types.int64, types.float64,
        types.int64[::1], types.float64[::1], types.int64[::1], types.float64[:, :, ::1],
    )
)  # fmt: skip
def measure(
    old: Any,
    new: Any,
    columns: int,
    grid_rows: Any,
    width: int,
    floor_rc: Any,
    new_form: int,
    old_form: int,
    bound: float,
    counts: Any,
    measures: Any,
    firsts: Any,
    sums: Any,
) -> None:
    """How a strip's new values differ from the old ones, added to `counts`, `measures` and each block's `sums`.

    `new_form` and `old_form` say how each side was rounded, -1 where it is codes. An error is relative to the old
    value, or to the `floor` of its block, the least normal number of the new format, where that is more.
    """
    for row in range(grid_rows.size):
        r = grid_rows[row]
        for c in range(floor_rc.shape[1]):
            floor = np.float64(floor_rc[r, c])
            old_old, new_new, old_new, squares, largest = 0.0, 0.0, 0.0, 0.0, 0.0
            for k in range(row * columns + c * width, row * columns + min((c + 1) * width, columns)):
                x, y = old[k], new[k]
                unequal = _differ(_nearest(x, new_form), y)
                counts[UNEQUAL] += unequal
                if unequal and firsts[FIRST_UNEQUAL] < 0:
                    firsts[FIRST_UNEQUAL] = k
                if not _differ(x, y):
                    if np.isfinite(x):
                        square = np.float64(x) * np.float64(x)
                        old_old += square
                        new_new += square
                        old_new += square
                    continue
                counts[CHANGED] += 1
                counts[REVERSE] += old_form < 0 or _differ(_nearest(y, old_form), x)
                counts[CUT] += new_form < 0 or _differ(_cut(x, new_form), y)
                counts[THROUGH_BF16] += _differ(_bfloat16(x), y)
                if not (np.isfinite(x) and np.isfinite(y)):
                    counts[NOT_FINITE] += 1
                    counts[BEYOND] += 1
                    if firsts[FIRST_BEYOND] < 0:
                        firsts[FIRST_BEYOND] = k
                    continue
                before, after = np.float64(x), np.float64(y)
                error = abs(after - before) / max(abs(before), floor)
                squares += error * error
                largest = max(largest, error)
                if error > bound:
                    counts[BEYOND] += 1
                    if firsts[FIRST_BEYOND] < 0:
                        firsts[FIRST_BEYOND] = k
                old_old += before * before
                new_new += after * after
                old_new += before * after
            sums[r, c, OLD] += old_old
            sums[r, c, NEW] += new_new
            sums[r, c, BOTH] += old_new
            measures[SQUARES] += squares
            measures[LARGEST] = max(measures[LARGEST], largest)


@compiled
def _encoded(value: Any) -> Any:
    """The E4M3 code of a value without its sign: to nearest, ties to even, saturating; NaN is 0x7F."""
    size = abs(np.float32(value))
    if size != size:
        return np.uint8(127)
    if size < np.float32(2.0**-6):
        return np.uint8(np.rint(size * np.float32(512)))
    bits: Any = np.int64(_bits(size))
    return np.uint8(min(((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - (120 << 3), 126))


@compiled
def _unlike(value: Any, code: Any) -> Any:
    """Whether a value's code is another one; zeros have no sign."""
    made = _encoded(value)
    negative = np.uint8(128) if _bits(value) >> np.uint32(31) else np.uint8(0)
    size = code & np.uint8(127)
    return (made != size) | ((made != 0) & (negative != code & np.uint8(128)))


@compiled
def _power_above(value: Any) -> Any:
    """2^ceil(log2(value)) of a positive normal number."""
    bits = _bits(value)
    return _from_bits((bits + np.uint32(0x7FFFFF)) & np.uint32(0x7F800000))


@compiled
def _stored(value: Any, storage: Any) -> Any:
    if storage == AS_BFLOAT16:
        return _bfloat16(value)
    if storage == AS_HALF:
        return _half(value)
    return np.float32(value)


@compiled
def _inverted(amax: Any) -> Any:
    """448 / amax as torch computes it where 448 is a number of Python's: 1 / amax, times 448."""
    return np.float32(np.float32(np.float32(1) / amax) * np.float32(448))


@compiled
def _inverted_in_bf16(amax: Any) -> Any:
    return _bfloat16(_bfloat16(np.float32(1) / amax) * np.float32(448))


@compiled
def _made(formula: Any, amax: Any) -> Any:
    """The scale that a formula gives for a largest |value|."""
    largest = np.float32(448)
    clamped = max(amax, np.float32(1e-4))
    if formula in (PUBLISHED, SCALE_IN_BF16, SCALE_IN_F16):
        return np.float32(clamped / largest)
    if formula == UNCLAMPED:
        return np.float32(amax / largest)
    if formula in (RECIPROCAL, DIVIDED):
        return np.float32(np.float32(1) / np.float32(largest / amax))
    if formula == INVERTED:
        return np.float32(np.float32(1) / _inverted(amax))
    if formula == POWER:
        return _power_above(np.float32(clamped / largest))
    if formula == POWER_UNCLAMPED:
        return _power_above(np.float32(amax / largest))
    if formula == TIMES_INVERSE:
        return np.float32(amax * np.float32(np.float32(1) / largest))
    if formula == OCP:
        return np.float32(_from_bits(_bits(amax) & np.uint32(0x7F800000)) * np.float32(2.0**-8))
    return _bfloat16(np.float32(1) / _inverted_in_bf16(amax))  # IN_BF16


@compiled
def _follows(
    old: Any, codes: Any, columns: int, top: int, bottom: int, left: int, right: int, divisor: Any, factor: Any,
    in_bf16: Any,
) -> Any:  # fmt: skip
    """Whether every code of a block is its value over the divisor, or times the factor where that is not 0."""
    for row in range(top, bottom):
        unlike = False
        for k in range(row * columns + left, row * columns + right):
            value = np.float32(old[k] * factor) if factor != 0 else np.float32(old[k] / divisor)
            unlike |= _unlike(_bfloat16(value) if in_bf16 else value, codes[k])
        if unlike:
            return False
    return True


@kernel(
    (
        types.float32[::1], types.uint8[::1], types.int64, types.int64[::1], types.int64, types.float32[:, ::1],
        types.int64, types.int64[::1], types.float32[:, ::1],
    )
)  # fmt: skip
def follow(
    old: Any,
    codes: Any,
    columns: int,
    grid_rows: Any,
    width: int,
    scale_rc: Any,
    storage: int,
    counts: Any,
    amax_rc: Any,
) -> None:
    """By which formulas the blocks of a strip, whole ones, follow from the values beside them; added to `counts`.

    Blocks of zeros follow by all of them, whatever their scale. `amax_rc` gets each block's largest |value|.
    """
    rows, top = grid_rows.size, 0
    while top < rows:
        bottom, r = top + 1, grid_rows[top]
        while bottom < rows and grid_rows[bottom] == r:
            bottom += 1
        for c in range(scale_rc.shape[1]):
            left, right = c * width, min((c + 1) * width, columns)
            amax, scale = np.float32(0), scale_rc[r, c]
            for row in range(top, bottom):
                for k in range(row * columns + left, row * columns + right):
                    amax = max(amax, abs(old[k]))
            amax_rc[r, c] = amax
            if amax == 0:
                empty = True
                for row in range(top, bottom):
                    for k in range(row * columns + left, row * columns + right):
                        empty &= codes[k] & np.uint8(127) == 0
                for formula in range(FORMULAS):
                    counts[formula] += empty
                continue
            divided = -1  # not tried yet
            for formula in range(FORMULAS):
                made = _made(formula, amax)
                if formula in (SCALE_IN_BF16, SCALE_IN_F16):
                    rounded = _bfloat16(made) if formula == SCALE_IN_BF16 else _half(made)
                    if storage != AS_FLOAT32 or _bits(rounded) != _bits(scale) or rounded == made:
                        counts[formula] += rounded == scale and rounded == made and storage == AS_FLOAT32
                        continue
                    exact = _follows(old, codes, columns, top, bottom, left, right, made, np.float32(0), False)
                    if not exact:
                        exact = _follows(old, codes, columns, top, bottom, left, right, scale, np.float32(0), False)
                    counts[formula] += exact
                    continue
                if _bits(_stored(made, storage)) != _bits(scale):
                    continue
                if formula == IN_BF16:
                    factor = _inverted_in_bf16(amax)
                    counts[formula] += _follows(old, codes, columns, top, bottom, left, right, scale, factor, True)
                elif formula in (RECIPROCAL, INVERTED):
                    factor = np.float32(np.float32(448) / amax) if formula == RECIPROCAL else _inverted(amax)
                    counts[formula] += _follows(old, codes, columns, top, bottom, left, right, scale, factor, False)
                else:
                    if divided < 0:
                        found = _follows(old, codes, columns, top, bottom, left, right, scale, np.float32(0), False)
                        if not found and made != scale:  # codes may be made before the scale is rounded to be stored
                            found = _follows(old, codes, columns, top, bottom, left, right, made, np.float32(0), False)
                        divided = 1 if found else 0
                    counts[formula] += divided
        top = bottom
