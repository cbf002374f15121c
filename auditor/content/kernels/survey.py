"""What block scales are, in one pass over their bits, for numba to compile."""

from typing import Any

import numpy as np
from numba import types

from auditor.content.kernels.compiled import compiled, kernel

# Where a survey counts; the first of each kind up to NO_POWER_OF_TWO, and of the extremes, stands at the same place.
NAN, INFINITE, ZERO, NEGATIVE, SUBNORMAL, NO_POWER_OF_TWO, POWER_OF_TWO, CLAMPED, BF16 = range(9)
PUBLISHED, RECIPROCAL, F16, COUNTS = 9, 10, 11, 12
LARGEST, SMALLEST, FIRSTS = 6, 7, 8

_INFINITY = 0x7F800000
# The bits of the scale of a block whose largest |weight| is at most 1e-4, by either formula.
_CLAMPED = int((np.float32(1e-4) / np.float32(448)).view(np.uint32))
_CLAMPED_POWER = int(np.float32(2.0**-22).view(np.uint32))


@kernel((types.uint32[::1], types.int64[::1], types.int64[::1], types.int64[::1]))
def survey(bits: Any, counts: Any, firsts: Any, exponents: Any) -> None:
    """What block scales are, by the bits of float32, added to `counts`; `firsts` begin at -1.

    `exponents` counts usable scales by their biased exponent. A scale is usable that is a positive normal number.
    """
    largest: Any = 0
    smallest: Any = _INFINITY
    for k in range(bits.size):
        code = np.int64(bits[k])
        exponent, mantissa = (code >> 23) & 255, code & 0x7FFFFF
        counts[CLAMPED] += code in (_CLAMPED, _CLAMPED_POWER)
        if exponent == 255:
            kind = NAN if mantissa else INFINITE
        elif code & 0x7FFFFFFF == 0:
            kind = ZERO
        elif code > 0x7FFFFFFF:
            kind = NEGATIVE
        elif exponent == 0:
            kind = SUBNORMAL
        else:
            kind = NO_POWER_OF_TWO if mantissa else -1
            exponents[exponent] += 1
            counts[POWER_OF_TWO] += mantissa == 0
            counts[BF16] += code & 0xFFFF == 0
            counts[F16] += _is_f16(code)
            published, reciprocal = _formulas(bits[k])
            counts[PUBLISHED] += published
            counts[RECIPROCAL] += reciprocal
            if code > largest:
                largest = code
                firsts[LARGEST] = k
            if code < smallest:
                smallest = code
                firsts[SMALLEST] = k
        if kind >= 0:
            counts[kind] += 1
            if firsts[kind] < 0:
                firsts[kind] = k


@compiled
def _is_f16(code: Any) -> Any:
    """Whether F16 has a positive normal number of such bits; below 2^-14 it has the multiples of 2^-24."""
    exponent = (code >> 23) - 127
    if exponent > 15 or exponent < -24:
        return False
    lost = 13 if exponent >= -14 else -1 - exponent
    return (code & 0x7FFFFF) & ((1 << lost) - 1) == 0


@compiled
def _formulas(bits: Any) -> Any:
    """Whether some amax gives this scale, of such bits, as amax / 448, and whether one does as 1 / (448 / amax).

    Each operation rounds by half a unit at most, so what gives it is 448 times the scale, or a neighbour. torch takes
    1 / amax · 448 for 448 / amax where 448 is a number of Python's.
    """
    scale = np.uint32(bits).view(np.float32)
    around = np.int64(np.float32(scale * np.float32(448)).view(np.uint32))
    published, reciprocal = False, False
    for step in range(-1, 2):
        amax = np.uint32(around + step).view(np.float32)
        published |= np.float32(amax / np.float32(448)) == scale
        inverse = np.float32(np.float32(np.float32(1) / amax) * np.float32(448))
        reciprocal |= np.float32(np.float32(1) / inverse) == scale
        reciprocal |= np.float32(np.float32(1) / np.float32(np.float32(448) / amax)) == scale
    return published, reciprocal


@kernel((types.uint8[::1], types.int64[::1]))
def count_codes(codes: Any, counts: Any) -> None:
    """How often each code of 8 bits occurs, added to `counts`; in four tables, as the same code may follow itself."""
    tables = np.zeros((4, 256), np.int64)
    whole = codes.size - codes.size % 4
    for k in range(0, whole, 4):
        tables[0, codes[k]] += 1
        tables[1, codes[k + 1]] += 1
        tables[2, codes[k + 2]] += 1
        tables[3, codes[k + 3]] += 1
    for k in range(whole, codes.size):
        tables[0, codes[k]] += 1
    for code in range(256):
        counts[code] += tables[0, code] + tables[1, code] + tables[2, code] + tables[3, code]
