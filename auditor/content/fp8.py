"""FP8 block quantisation as the release defines it, exact to the bit, in numpy.

E4M3FN: one sign, four exponent and three mantissa bits, bias 7, largest value 448, NaN 0x7F and 0xFF, no
infinity. In shapes, R and C are a weight's rows and columns, r and c its blocks.
"""

from math import ceil

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

LARGEST = np.float32(448)
CLAMP = np.float32(1e-4)  # an all-zero block must not have scale 0
_NAN = 0x7F
_LEAST_NORMAL = np.float32(2.0**-6)


def encode_e4m3(values: Floats) -> Codes:
    """E4M3FN codes, rounded to nearest even, saturating at 448; NaN becomes 0x7F with its sign."""
    bits = values.view(np.uint32)
    magnitude = bits & np.uint32(0x7FFFFFFF)
    # Normal numbers: drop 20 of 23 mantissa bits, half to even, and move the exponent's bias from 127 to 7.
    rounded = (magnitude + np.uint32(0x7FFFF) + ((magnitude >> np.uint32(20)) & np.uint32(1))) >> np.uint32(20)
    normal = np.minimum(rounded.astype(np.int32) - (120 << 3), 0x7E)
    # Subnormal numbers are multiples of 2^-9; multiplying by 512 is exact and rint is half to even.
    absolute = np.minimum(np.abs(values), _LEAST_NORMAL)
    subnormal = np.rint(np.where(np.isnan(absolute), np.float32(0), absolute) * np.float32(512)).astype(np.int32)
    codes = np.where(magnitude < _LEAST_NORMAL.view(np.uint32), subnormal, normal)
    codes = np.where(np.isnan(values), _NAN, codes)
    signed: Codes = (codes | ((bits >> np.uint32(24)) & np.uint32(0x80)).astype(np.int32)).astype(np.uint8)
    return signed


def decode_table() -> Floats:
    """The value of each of the 256 codes."""
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    magnitude = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10.0))
    magnitude[(codes & 0x7F) == _NAN] = np.nan
    table: Floats = np.where(codes & 0x80, -magnitude, magnitude).astype(np.float32)
    return table


def encode_bf16(values: Floats) -> npt.NDArray[np.uint16]:
    """BF16 bit patterns of finite values, rounded to nearest even."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def _crop(block: tuple[int, int], shape: tuple[int, ...]) -> tuple[int, int]:
    """A block no larger than the weight: padding costs memory, and what a config says may be 2^24."""
    return min(block[0], shape[0]), min(block[1], shape[1])


def block_scales(weight_RC: Floats, block: tuple[int, int], *, powers_of_two: bool = False) -> Floats:
    """The multiplier of each weight block (r × c). Edge blocks are zero-padded, which moves no maximum."""
    rows, columns = weight_RC.shape
    block = _crop(block, weight_RC.shape)
    r, c = ceil(rows / block[0]), ceil(columns / block[1])
    padded = np.zeros((r * block[0], c * block[1]), np.float32)
    np.abs(weight_RC, out=padded[:rows, :columns])
    amax_rc = np.maximum(padded.reshape(r, block[0], c, block[1]).max(axis=(1, 3)), CLAMP)
    scale_rc: Floats = amax_rc / LARGEST
    if powers_of_two:
        # 2^ceil(log2(scale)) without a logarithm: frexp's mantissa is 0.5 exactly for a power of two.
        mantissa, exponent = np.frexp(scale_rc)
        scale_rc = np.ldexp(np.float32(1), np.where(mantissa == 0.5, exponent - 1, exponent)).astype(np.float32)
    return scale_rc


def spread_scales(scale_rc: Floats, block: tuple[int, int], shape: tuple[int, int]) -> Floats:
    """Each block's scale at each of its elements, cropped to the weight's shape."""
    block = _crop(block, shape)
    spread_RC = np.repeat(np.repeat(scale_rc, block[0], axis=0), block[1], axis=1)
    return spread_RC[: shape[0], : shape[1]]


def quantise(weight_RC: Floats, scale_rc: Floats, block: tuple[int, int]) -> Codes:
    """The codes of a weight under its blocks' scales."""
    rows, columns = weight_RC.shape
    return encode_e4m3(weight_RC / spread_scales(scale_rc, block, (rows, columns)))


def dequantise(code_RC: Codes, scale_rc: Floats, block: tuple[int, int]) -> Floats:
    """float32(code) × scale of its block."""
    rows, columns = code_RC.shape
    values: Floats = decode_table()[code_RC] * spread_scales(scale_rc, block, (rows, columns))
    return values
