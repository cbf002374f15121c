"""Two sides of a conversion, strip beside strip, for numba to compile: equality, errors, and formulas of quantisation.

Shapes: R and C are a strip's rows and columns, r and c the blocks of a whole weight. `grid_rows` has the row of blocks
of each row of a strip, so that blocks may begin anew wherever they do. Values are float32, which BF16, F16 and
FP8 × scale are exactly, but for the product's own rounding.
"""

from typing import Any

import numpy as np
from numba import types

from auditor.content.kernels.compiled import compiled, kernel, reordered

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
_PAGE = 512  # elements
_SMALL, _LARGE = 1e-24, 1e30  # between which sums of squares in float32 are good
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


@kernel((types.uint8[::1], types.uint8[::1]), (types.uint64[::1], types.uint64[::1]))
def same(one: Any, other: Any) -> bool:
    """Whether two runs of as many elements are the same; looks at a page at a time."""
    position, size = 0, one.size
    while position < size:
        stop = min(size, position + _PAGE)
        # What begins at 0 is taken many elements at once, here and below.
        left, right = one[position:stop], other[position:stop]
        differing = one.dtype.type(0)
        for k in range(left.size):
            differing |= left[k] ^ right[k]
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
        in_row, out_row = codes[row * columns : (row + 1) * columns], values[row * columns : (row + 1) * columns]
        for c in range(scale_rc.shape[1]):
            scale, right = scale_rc[grid_rows[row], c], min((c + 1) * width, columns)
            block, out = in_row[c * width : right], out_row[c * width : right]
            for k in range(block.size):
                out[k] = table[block[k]] * scale


@compiled
def _unlike_cast(codes: Any, others: Any, scale: Any, form: Any) -> Any:
    """Whether any code × scale, rounded to nearest even, has other bits than the other side; so has a NaN, always.

    A normal code is a float32 once its exponent has that bias, and the others are multiples of 2^-9.
    """
    differing, shift = np.uint32(0), np.uint32(16) if form == BFLOAT16 else np.uint32(0)
    for k in range(codes.size):
        code = np.uint32(codes[k])
        size = np.uint32(code & np.uint32(0x7F))
        normal = np.uint32(np.uint32(size << np.uint32(20)) + np.uint32(120 << 23)).view(np.float32)
        small = np.float32(np.int32(size)) * np.float32(2.0**-9)
        bits = np.float32(np.float32(normal if size >= np.uint32(8) else small) * scale).view(np.uint32)
        if form == BFLOAT16:
            even = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
            bits = np.uint32(np.uint32(bits + np.uint32(np.uint32(0x7FFF) + even)) >> np.uint32(16))
        bits = np.uint32(bits ^ np.uint32(np.uint32(np.uint32(code & np.uint32(0x80)) << np.uint32(24)) >> shift))
        differing = np.uint32(differing | np.uint32(bits ^ np.uint32(others[k])))
        differing = np.uint32(differing | np.uint32(size == np.uint32(0x7F)))
    return differing != 0


@kernel(
    *(
        (types.uint8[::1], types.int64, types.int64[::1], types.float32[:, ::1], types.int64, other[::1], types.int64)
        for other in (types.uint16, types.uint32)
    )
)
def agree(codes: Any, columns: int, grid_rows: Any, scale_rc: Any, width: int, others: Any, form: int) -> bool:
    """Whether code × scale, rounded to nearest even, has the bits of the other side in every element of a strip.

    What is no number, and zeros of the other sign, are not looked at more closely: they are not the same.
    """
    for row in range(grid_rows.size):
        in_row, other_row = codes[row * columns : (row + 1) * columns], others[row * columns : (row + 1) * columns]
        for c in range(scale_rc.shape[1]):
            left, right = c * width, min((c + 1) * width, columns)
            if _unlike_cast(in_row[left:right], other_row[left:right], scale_rc[grid_rows[row], c], form):
                return False
    return True


@compiled
def _unequal(values: Any, others: Any, form: Any) -> Any:
    """How many values, rounded to nearest, are not the others."""
    count = 0
    if form == BFLOAT16:
        for k in range(values.size):
            count += _differ(_bfloat16(values[k]), others[k])
    elif form == HALF:
        for k in range(values.size):
            count += _differ(_half(values[k]), others[k])
    else:
        for k in range(values.size):
            count += _differ(values[k], others[k])
    return count


@compiled
def _uncut(values: Any, others: Any, form: Any) -> Any:
    """How many values, cut towards zero, are not the others."""
    count = 0
    if form == BFLOAT16:
        for k in range(values.size):
            count += _differ(_cut(values[k], BFLOAT16), others[k])
    else:
        for k in range(values.size):
            count += _differ(_cut(values[k], HALF), others[k])
    return count


@compiled
def _errors(values: Any, others: Any, floor: Any, errors: Any) -> Any:
    """Each relative error, and the bits of the largest one: those of infinity and more where there is none.

    Bits of numbers that are not negative are in the numbers' order.
    """
    largest = np.int32(0)
    for k in range(values.size):
        error = np.float32(abs(others[k] - values[k]) / max(abs(values[k]), floor))
        errors[k] = error
        largest = max(largest, np.int32(np.float32(error).view(np.int32) & np.int32(0x7FFFFFFF)))
    return largest


@reordered
def _sums(values: Any, others: Any, errors: Any, bound: Any) -> Any:
    """Squares of both sides and of the relative errors, and the products, added up; how many errors are beyond."""
    old, new, both, squares, beyond = np.float32(0), np.float32(0), np.float32(0), np.float32(0), np.int32(0)
    for k in range(values.size):
        old += values[k] * values[k]
        new += others[k] * others[k]
        both += values[k] * others[k]
        squares += errors[k] * errors[k]
        beyond += np.int32(errors[k] > bound)
    return old, new, both, squares, beyond


@compiled
def _first(values: Any, others: Any, form: Any) -> Any:
    """The first value that is not the other when it is rounded."""
    for k in range(values.size):
        if _differ(_nearest(values[k], form), others[k]):
            return k
    return -1


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
    errors = np.empty(min(width, columns), np.float32)
    for row in range(grid_rows.size):
        r, begin = grid_rows[row], row * columns
        old_row, new_row = old[begin : begin + columns], new[begin : begin + columns]
        for c in range(floor_rc.shape[1]):
            left, floor = c * width, floor_rc[r, c]
            before, after = old_row[left : min(left + width, columns)], new_row[left : min(left + width, columns)]
            unequal = _unequal(before, after, new_form)
            changed = unequal if new_form in (-1, FLOAT32) else _unequal(before, after, FLOAT32)
            counts[UNEQUAL] += unequal
            counts[CHANGED] += changed
            if unequal and firsts[FIRST_UNEQUAL] < 0:
                firsts[FIRST_UNEQUAL] = begin + left + _first(before, after, new_form)
            if new_form == -1:
                counts[REVERSE] += _unequal(after, before, old_form) if old_form >= 0 else changed
            elif new_form == FLOAT32:
                counts[THROUGH_BF16] += _unequal(before, after, BFLOAT16)
            elif changed:
                counts[CUT] += _uncut(before, after, new_form)
            error = errors[: before.size]
            largest = _errors(before, after, floor, error)
            old_old, new_new, old_new, squares, beyond = _sums(before, after, error, np.float32(bound))
            if largest >= np.int32(0x7F800000) or not (
                _SMALL < old_old < _LARGE and _SMALL < new_new < _LARGE and squares < _LARGE
            ):
                # Not all are numbers, or their squares are none that float32 holds.
                _count_odd(before, after, floor, bound, begin + left, counts, measures, firsts, sums[r, c])
                continue
            counts[BEYOND] += beyond
            if beyond and firsts[FIRST_BEYOND] < 0:
                for k in range(error.size):
                    if error[k] > np.float32(bound):
                        firsts[FIRST_BEYOND] = begin + left + k
                        break
            sums[r, c, OLD] += old_old
            sums[r, c, NEW] += new_new
            sums[r, c, BOTH] += old_new
            measures[SQUARES] += squares
            measures[LARGEST] = max(measures[LARGEST], np.float64(np.int32(largest).view(np.float32)))


@compiled
def _count_odd(
    before: Any, after: Any, floor: Any, bound: Any, begin: Any, counts: Any, measures: Any, firsts: Any, sums: Any
) -> None:
    """The same of a part of a row in which not all are numbers, element by element."""
    for k in range(before.size):
        x, y = before[k], after[k]
        if not (np.isfinite(x) and np.isfinite(y)):
            if _differ(x, y):
                counts[NOT_FINITE] += 1
                counts[BEYOND] += 1
                if firsts[FIRST_BEYOND] < 0:
                    firsts[FIRST_BEYOND] = begin + k
            continue
        sums[OLD] += np.float64(x) * np.float64(x)
        sums[NEW] += np.float64(y) * np.float64(y)
        sums[BOTH] += np.float64(x) * np.float64(y)
        error = abs(np.float64(y) - np.float64(x)) / max(abs(np.float64(x)), np.float64(floor))
        measures[SQUARES] += error * error
        measures[LARGEST] = max(measures[LARGEST], error)
        if error > bound:
            counts[BEYOND] += 1
            if firsts[FIRST_BEYOND] < 0:
                firsts[FIRST_BEYOND] = begin + k


@compiled
def _unlike(value: Any, code: Any) -> Any:
    """Whether a number's code, to nearest even and saturating, is another one; zeros have no sign, NaN has no code."""
    size = np.float32(abs(value))
    bits = np.float32(size).view(np.uint32)
    even = np.uint32(np.uint32(bits >> np.uint32(20)) & np.uint32(1))
    normal = np.uint32(np.uint32(bits + np.uint32(np.uint32(0x7FFFF) + even)) >> np.uint32(20))
    normal = np.uint32(min(np.uint32(normal), np.uint32((120 << 3) + 0x7E)) - np.uint32(120 << 3))
    small = np.uint32(np.int32(np.rint(min(size, np.float32(2.0**-6)) * np.float32(512))))
    made = np.uint32(normal if size >= np.float32(2.0**-6) else small)
    sign = np.uint32(np.uint32(np.float32(value).view(np.uint32)) >> np.uint32(31))
    signed = np.uint32(made | np.uint32(np.uint32(sign if made else np.uint32(0)) << np.uint32(7)))
    stored = np.uint32(code)
    stored = np.uint32(stored if stored != np.uint32(0x80) else np.uint32(0))
    return (signed != stored) | (size != size)


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
        begin = row * columns
        values, block = old[begin + left : begin + right], codes[begin + left : begin + right]
        unlike = np.uint32(0)
        if factor == 0:
            for k in range(values.size):
                unlike |= np.uint32(_unlike(np.float32(values[k] / divisor), block[k]))
        elif in_bf16:
            for k in range(values.size):
                unlike |= np.uint32(_unlike(_bfloat16(np.float32(values[k] * factor)), block[k]))
        else:
            for k in range(values.size):
                unlike |= np.uint32(_unlike(np.float32(values[k] * factor), block[k]))
        if unlike:
            return False
    return True


@compiled
def _amax(values: Any) -> Any:
    """The bits of the largest |value|; those of a NaN are larger than all."""
    largest = np.int32(0)
    for k in range(values.size):
        largest = max(largest, np.int32(np.float32(values[k]).view(np.int32) & np.int32(0x7FFFFFFF)))
    return largest


@kernel((types.float32[::1], types.int64, types.int64[::1], types.int64, types.float32[:, ::1]))
def find_largest(values: Any, columns: int, grid_rows: Any, width: int, amax_rc: Any) -> None:
    """The largest |value| of each block that a strip has, of numbers; added to what `amax_rc` has."""
    for row in range(grid_rows.size):
        r, in_row = grid_rows[row], values[row * columns : (row + 1) * columns]
        for c in range(amax_rc.shape[1]):
            part, largest = in_row[c * width : min((c + 1) * width, columns)], np.int32(0)
            for k in range(part.size):
                bits = np.int32(np.float32(part[k]).view(np.int32) & np.int32(0x7FFFFFFF))
                largest = max(largest, np.int32(bits if bits < np.int32(0x7F800000) else np.int32(0)))
            amax_rc[r, c] = max(amax_rc[r, c], np.int32(largest).view(np.float32))


@kernel(
    (
        types.float32[::1], types.uint8[::1], types.int64, types.int64[::1], types.int64, types.float32[:, ::1],
        types.int64, types.int64[::1],
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
) -> None:
    """By which formulas the blocks of a strip, whole ones, follow from the values beside them; added to `counts`.

    Blocks of zeros follow by all of them, whatever their scale.
    """
    rows, top = grid_rows.size, 0
    while top < rows:
        bottom, r = top + 1, grid_rows[top]
        while bottom < rows and grid_rows[bottom] == r:
            bottom += 1
        for c in range(scale_rc.shape[1]):
            left, right = c * width, min((c + 1) * width, columns)
            bits, scale = np.int32(0), scale_rc[r, c]
            for row in range(top, bottom):
                bits = max(bits, _amax(old[row * columns + left : row * columns + right]))
            amax = np.int32(bits).view(np.float32)
            if not np.isfinite(amax):
                continue
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
