"""Real tensor content, reproducible from a seed and made strip by strip in bounded memory."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from auditor.content.fp8 import Floats, block_scales, dequantise, encode_bf16, encode_e4m3, quantise
from auditor.forge.plan import Plan, Tensor

_DEVIATION = np.float32(0.02)  # initializer_range of the released configs
# What an edit sees: bit patterns where numpy has no such type.
_ARRAYS = {"F8_E4M3": "u1", "BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
_STRIP = 128  # rows; a whole number of any usual block's rows


class Content:
    """The bytes of each tensor of a plan."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.block = plan.block
        self.powers_of_two = plan.powers_of_two
        self.seed = seed
        self.edits = plan.edits
        self.strip_rows = plan.block[0] * max(1, _STRIP // plan.block[0])

    def strips(self, tensor: Tensor) -> Iterator[bytes]:
        """The bytes of a tensor from its first to its last. One that is edited is whole in memory meanwhile."""
        edit = self.edits.get(tensor.name)
        if edit is None:
            yield from self._sound(tensor)
            return
        data = bytearray().join(self._sound(tensor))
        edited = np.asarray(edit(np.frombuffer(data, _ARRAYS[tensor.dtype]).reshape(tensor.shape)))
        assert edited.nbytes == tensor.size, tensor.name
        yield edited.tobytes()

    def _sound(self, tensor: Tensor) -> Iterator[bytes]:
        if not tensor.size:  # a placeholder, which has no blocks either
            return
        if tensor.values == "scales":
            # Scales are 16,384 times fewer than codes: a whole grid is small even where the weight is not.
            grid = np.concatenate([self._scales(strip) for strip in self.source(tensor.stream, tensor.origin)])
            yield _encode(_fit(grid, tensor.shape), tensor.dtype)
            return
        for strip in self.source(tensor.stream, tensor.shape):
            if tensor.values == "codes":
                yield quantise(strip, self._scales(strip), self.block).tobytes()
            elif tensor.values == "dequantised":
                scales = self._scales(strip)
                yield _encode(dequantise(quantise(strip, scales, self.block), scales, self.block), tensor.dtype)
            elif tensor.values == "norms":
                yield _encode(np.float32(1) + strip, tensor.dtype)
            else:
                yield _encode(strip, tensor.dtype)

    def source(self, stream: str, shape: tuple[int, ...]) -> Iterator[Floats]:
        """The unquantised values, always the same for a stream and a shape, in strips of rows."""
        key = hashlib.sha256(stream.encode()).digest()
        random = np.random.default_rng([self.seed, *np.frombuffer(key[:16], np.uint32).tolist()])
        *leading, columns = shape or (1,)
        rows = int(np.prod(leading, dtype=np.int64))
        for begin in range(0, rows, self.strip_rows):
            count = min(self.strip_rows, rows - begin)
            yield random.standard_normal((count, columns), dtype=np.float32) * _DEVIATION

    def _scales(self, strip: Floats) -> Floats:
        return block_scales(strip, self.block, powers_of_two=self.powers_of_two)


def _fit(grid: Floats, shape: tuple[int, ...]) -> Floats:
    """The grid in the shape to be written, which only in a broken checkpoint is another."""
    return grid if grid.shape == shape else np.resize(grid, shape)


def _encode(values: Floats, dtype: str) -> bytes:
    """Values in a safetensors dtype, little-endian."""
    encoded: Any
    if dtype == "BF16":
        encoded = encode_bf16(values).astype("<u2")
    elif dtype == "F8_E4M3":
        encoded = encode_e4m3(values)
    elif dtype == "F8_E8M0":
        # The exponent alone, rounded up so that no code overflows when scales are meant.
        mantissa, exponent = np.frexp(values)
        encoded = (np.where(mantissa == 0.5, exponent - 1, exponent) + 127).astype(np.uint8)
    elif dtype in ("F16", "F32", "F64"):
        encoded = values.astype({"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype])
    else:
        # Packed formats appear in broken checkpoints alone, where only their size matters.
        assert dtype in ("U8", "F4"), dtype
        encoded = (values * np.float32(1000)).astype(np.int32).astype(np.uint8)
        if dtype == "F4":
            low, high = encoded.reshape(-1, 2).T & 15
            encoded = low | high << 4
    return bytes(encoded.tobytes())
