"""Real tensor content, reproducible from a seed and made strip by strip in bounded memory."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from auditor.content.fp8 import Floats, block_scales, dequantise, encode_bf16, encode_e4m3, quantise
from auditor.forge.formats import Form, is_plain
from auditor.forge.plan import Plan, Tensor, usual

_DEVIATION = np.float32(0.02)  # initializer_range of the released configs
# What an edit sees: bit patterns where numpy has no such type.
_ARRAYS = {
    "F8_E4M3": "u1", "F8_E8M0": "u1", "U8": "u1", "I8": "u1", "BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8",
    "I32": "<u4", "I64": "<i8",
}  # fmt: skip
_STRIP = 128  # rows; a whole number of any usual block's rows


class Content:
    """The bytes of each tensor of a plan."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.block = plan.block
        self.powers_of_two = plan.powers_of_two
        self.seed = seed
        self.edits = plan.edits
        self.strip_rows = plan.block[0] * max(1, _STRIP // plan.block[0])
        self.rows = plan.rows
        self.usual = usual(plan.rows.values())

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
        form = self._form(tensor)
        if form is not None:
            yield from self._formed(tensor, form)
            return
        if tensor.values == "scales":
            # Scales are 16,384 times fewer than codes: a whole grid is small even where the weight is not.
            grid = np.concatenate([self._scales(strip) for strip in self.source(tensor.stream, tensor.origin)])
            yield _encode(_fit(grid, tensor.shape), tensor.dtype)
            return
        row = self.rows.get(tensor.name)
        if row is not None and row.below is not None and row.dtype == tensor.dtype:
            yield from self._table(tensor, row.below)
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

    def _form(self, tensor: Tensor) -> Form | None:
        """The format that a tensor is written in, where that is another than the usual blocks of FP8."""
        row, codes = self.rows.get(tensor.name), self.rows.get(tensor.stream)
        quantiser = None if codes is None else codes.quantiser
        if quantiser is None or row is None or (quantiser is self.usual and is_plain(quantiser)):
            return None
        sound = row.dtype == tensor.dtype and row.shape == tensor.shape
        return Form(quantiser, quantiser.block, quantiser.powers_of_two) if sound else None

    def _formed(self, tensor: Tensor, form: Form) -> Iterator[bytes]:
        row, codes = self.rows[tensor.name], self.rows[tensor.stream]
        shape = codes.shape_of_weight or codes.shape
        companion = row.companion
        if companion is not None and companion.meaning != "scale":
            yield _encode(form.further(companion, shape, tensor.name), tensor.dtype)
            return
        strips = self.source(tensor.stream, shape, *form.heights(shape))
        if form.whole:
            strips = iter([np.concatenate(list(strips))])
        if companion is None:
            for strip in strips:
                yield form.codes(strip)
            return
        grid = np.concatenate([form.scales(strip) for strip in strips])
        # A scale in U8 is the exponent that E8M0 has.
        yield _encode(grid.T if form.whole else grid, "F8_E8M0" if tensor.dtype == "U8" else tensor.dtype)

    def _table(self, tensor: Tensor, below: int) -> Iterator[bytes]:
        """Rows of whole numbers below a bound, all different."""
        rows, columns = tensor.shape
        random = self._random(tensor.stream)
        for begin in range(0, rows, _STRIP):
            order = random.random((min(_STRIP, rows - begin), below)).argsort(axis=1)
            yield order[:, :columns].astype("<i8" if tensor.dtype == "I64" else "<i4").tobytes()

    def _random(self, stream: str) -> np.random.Generator:
        key = hashlib.sha256(stream.encode()).digest()
        return np.random.default_rng([self.seed, *np.frombuffer(key[:16], np.uint32).tolist()])

    def source(self, stream: str, shape: tuple[int, ...], *heights: int) -> Iterator[Floats]:
        """The unquantised values, always the same for a stream and a shape, in strips of rows, of such `heights`."""
        random = self._random(stream)
        *leading, columns = shape or (1,)
        rows = int(np.prod(leading, dtype=np.int64))
        for count in heights or _cut(rows, self.strip_rows):
            yield random.standard_normal((count, columns), dtype=np.float32) * _DEVIATION

    def _scales(self, strip: Floats) -> Floats:
        return block_scales(strip, self.block, powers_of_two=self.powers_of_two)


def _cut(rows: int, height: int) -> Iterator[int]:
    """The heights of strips that rows are cut into."""
    for begin in range(0, rows, height):
        yield min(height, rows - begin)


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
    elif dtype in ("I32", "I64"):
        encoded = values.astype({"I32": "<i4", "I64": "<i8"}[dtype])
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
