"""Weights as a format stores them: codes, their scales, and what else goes with them, made of rows of a weight.

In shapes, R and C are a weight's rows and columns, r and c its blocks or groups.
"""

from collections.abc import Iterator
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from auditor.content.fp8 import (
    Floats,
    block_scales,
    decode_table,
    encode_bf16,
    encode_e4m3,
    quantise,
    spread_scales,
)
from auditor.families.scaling import WHOLE, Companion, Quantiser
from auditor.format.dtypes import BITS, FP8

# What the largest weight is taken for where one scale has to do for all: forged ones stay below, 8 deviations away.
LARGEST = np.float32(0.16)
_STRIP = 128  # rows, where blocks are lower
_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
_LARGEST_E2M1, _LARGEST_E4M3 = np.float32(6), np.float32(448)


def is_plain(quantiser: Quantiser) -> bool:
    """Whether weights are FP8 in blocks that follow each other, with scales in floats or their own exponents."""
    scales = [each.dtypes[0] for each in quantiser.companions if each.meaning == "scale"]
    return quantiser.dtype == FP8 and quantiser.chunks == 1 and scales not in ([], ["U8"])


class Form(Struct, frozen=True):
    """A quantiser at work; `block` and `powers_of_two` are what a plan may have changed of it."""

    quantiser: Quantiser
    block: tuple[int, int]
    powers_of_two: bool

    @property
    def whole(self) -> bool:
        """Whether codes of one row of a weight lie in many rows, so that a weight is made at once."""
        return self.quantiser.layout is not None

    def heights(self, shape: tuple[int, ...]) -> Iterator[int]:
        """The heights of strips of rows that a weight is made in: whole rows of blocks, within each chunk."""
        chunk = shape[0] // self.quantiser.chunks
        height = min(self.block[0], chunk)
        height *= max(1, _STRIP // height)
        for top in range(0, shape[0], chunk):
            bottom = min(top + chunk, shape[0])
            yield from (min(height, bottom - begin) for begin in range(top, bottom, height))

    @property
    def companion(self) -> Companion | None:
        """The scales of blocks or groups, if the format has any."""
        return next((each for each in self.quantiser.companions if each.meaning == "scale"), None)

    def scales(self, weight_RC: Floats) -> Floats:
        """The scale of each block (r × c), as it is stored: what codes are made with."""
        companion = self.companion
        if companion is None:
            return np.full((1, 1), LARGEST / _LARGEST_E4M3, np.float32)
        dtype = companion.dtypes[0]
        if self.quantiser.dtype == FP8:
            scale_rc = block_scales(
                weight_RC, self.block, powers_of_two=self.powers_of_two or dtype in ("F8_E8M0", "U8")
            )
        else:
            amax_rc = np.maximum(block_scales(weight_RC, self.block) * _LARGEST_E4M3, np.float32(1e-4))
            scale_rc = amax_rc / self._largest()
        if dtype == FP8:
            return decode_table()[encode_e4m3(scale_rc / self.second_level())]
        if dtype in ("F8_E8M0", "U8"):
            mantissa, exponent = np.frexp(scale_rc)
            return np.ldexp(np.float32(1), np.where(mantissa == 0.5, exponent - 1, exponent))
        if dtype == "BF16":
            return (encode_bf16(scale_rc).astype(np.uint32) << np.uint32(16)).view(np.float32)
        return scale_rc.astype(np.float16).astype(np.float32) if dtype == "F16" else scale_rc

    def second_level(self) -> np.float32:
        """The scale of a whole weight."""
        if self.quantiser.dtype == FP8:
            return LARGEST / _LARGEST_E4M3
        return np.float32(LARGEST / (_LARGEST_E2M1 * _LARGEST_E4M3))

    def codes(self, weight_RC: Floats) -> bytes:
        """The codes of a weight, or of a strip of its rows that begins with a block."""
        rows, columns = weight_RC.shape
        scale_rc = self.scales(weight_RC)
        if self.quantiser.dtype == FP8:
            block = (WHOLE, WHOLE) if self.companion is None else self.block
            return quantise(weight_RC, scale_rc, block).tobytes()
        spread_RC = spread_scales(scale_rc, self.block, (rows, columns))
        if self.companion is not None and self.companion.dtypes[0] == FP8:
            spread_RC = spread_RC * self.second_level()
        ratio_RC = np.divide(weight_RC, spread_RC, out=np.zeros_like(weight_RC), where=spread_RC > 0)
        bits = self._bits()
        if self.quantiser.packing == 1:
            return np.clip(np.rint(ratio_RC), -127, 127).astype(np.int8).tobytes()
        if self.quantiser.dtype in ("U8", "I8"):
            codes_RC = _encode_e2m1(ratio_RC)
        else:
            half = 1 << (bits - 1)
            codes_RC = (np.clip(np.rint(ratio_RC), -half, half - 1) + half).astype(np.uint32)
        if self.whole:  # codes in (in, out); AWQ packs neighbours of a row of them, GPTQ of a column
            along = 1 if self.quantiser.name == "AWQ" else 0
            return _packed(codes_RC.T, bits, along, self.quantiser.dtype)
        return _packed(codes_RC, bits, 1, self.quantiser.dtype)

    def further(self, companion: Companion, shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
        """What a companion beside the scales holds, for a weight of a shape."""
        if companion.meaning == "shape":
            return np.array(shape, np.int64)
        if companion.meaning == "order":
            return np.arange(shape[-1]) // self.block[1]
        if companion.meaning == "zero_point":
            return np.full(companion.shape(shape), 0x77777777, np.int64)
        value = self.second_level() if companion.meaning == "tensor_scale" else np.float32(0.001 + len(name) / 1e5)
        return np.full(companion.shape(shape), 1 / value if companion.divides else value, np.float32)

    def _bits(self) -> int:
        return BITS[self.quantiser.dtype] // self.quantiser.packing

    def _largest(self) -> np.float32:
        if self.quantiser.packing > 1 and self.quantiser.dtype in ("U8", "I8"):
            return _LARGEST_E2M1
        return np.float32((1 << (self._bits() - 1)) - 1)


def _encode_e2m1(values: Floats) -> npt.NDArray[np.uint8]:
    """The nearest codes of E2M1, ties to the smaller magnitude."""
    between = (_E2M1[1:] + _E2M1[:-1]) / 2
    magnitude = np.searchsorted(between, np.abs(values), side="left").astype(np.uint8)
    return magnitude | (np.signbit(values).astype(np.uint8) << np.uint8(3))


def _packed(codes: npt.NDArray[Any], bits: int, along: int, dtype: str) -> bytes:
    """Codes side by side in elements of a dtype, the first in the lowest bits, those of one axis together."""
    packing = BITS[dtype] // bits
    codes = np.moveaxis(codes, along, -1).astype(np.uint32)
    width = ceil(codes.shape[-1] / packing) * packing
    padded = np.zeros((*codes.shape[:-1], width), np.uint32)
    padded[..., : codes.shape[-1]] = codes
    groups = padded.reshape(*codes.shape[:-1], -1, packing) << (np.arange(packing, dtype=np.uint32) * np.uint32(bits))
    words = np.bitwise_or.reduce(groups, axis=-1).astype("<u4" if dtype == "I32" else "u1")
    return np.ascontiguousarray(np.moveaxis(words, -1, along)).tobytes()
