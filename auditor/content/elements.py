"""Sums up the elements of one tensor, run by run, for every dtype of the format.

Float formats are judged by their bits; what a run's largest codes do not tell (non-finite codes, or all of one
sign) is looked at code by code.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from auditor.content.device import Bytes
from auditor.content.fp8 import decode_table, encode_bf16
from auditor.content.kernels.reduce import alike, count_masked, explain, sweep
from auditor.content.values import Position
from auditor.format.dtypes import BITS, packed_bytes
from auditor.text import quoted


class Format(NamedTuple):
    """A float format by its codes: the unsigned integer, the largest finite magnitude, infinity's (or -1)."""

    codes: Any
    largest_finite: int
    infinity: int

    @property
    def magnitude(self) -> int:
        """The mask of everything but the sign."""
        return int((1 << (8 * np.dtype(self.codes).itemsize - 1)) - 1)


FORMATS = {
    "F8_E4M3": Format(np.uint8, 0x7E, -1),
    "F8_E5M2": Format(np.uint8, 0x7B, 0x7C),
    "BF16": Format(np.uint16, 0x7F7F, 0x7F80),
    "F16": Format(np.uint16, 0x7BFF, 0x7C00),
    "F32": Format(np.uint32, 0x7F7FFFFF, 0x7F800000),
}
_INTEGERS = {"BOOL": "u1", "U8": "u1", "I8": "i1", "U16": "u2", "I16": "i2", "U32": "u4", "I32": "i4", "U64": "u8",
             "I64": "i8"}  # fmt: skip
_TABLE = decode_table()
_FEW = 64  # values, of which hardly all are E4M3's where not all of a tensor are


@cache
def _on_grid(dtype: str) -> npt.NDArray[np.bool_]:
    """Which of the 65,536 codes of BF16 or F16 are numbers that E4M3 has."""
    held = np.zeros(1 << 16, np.bool_)
    numbers = _TABLE[np.isfinite(_TABLE)]
    held[numbers.astype(np.float16).view(np.uint16) if dtype == "F16" else encode_bf16(numbers)] = True
    return held


def _mask(dtype: str, packing: int) -> int:
    """All bits but the highest of each value that shares an element.

    Of E2M1 these are the magnitude; of integers with an offset all are 0 in the least value and in 0 alone.
    """
    bits = BITS[dtype] // packing
    return sum(((1 << (bits - 1)) - 1) << (bits * place) for place in range(packing))


def decode(dtype: str, code: int) -> float:
    """The value of a signed magnitude in a float format."""
    size = abs(code)
    if dtype == "F8_E4M3":
        value = float(_TABLE[size])
    elif dtype == "F8_E5M2":
        value = float(np.uint16(size << 8).view(np.float16))
    elif dtype == "F16":
        value = float(np.uint16(size).view(np.float16))
    elif dtype == "BF16":
        value = float(np.uint32(size << 16).view(np.float32))
    else:
        value = float(np.uint32(size).view(np.float32))
    return -value if code < 0 else value


class Values:
    """What has been seen of a tensor so far."""

    def __init__(self, dtype: str, *, packing: int = 1) -> None:
        self.dtype = dtype
        self._packed = _mask(dtype, packing) if packing > 1 else None
        self.read = self.nan = self.infinite = self.zeros = 0
        self.first_nonfinite: Position | None = None
        self._format = FORMATS.get(dtype)
        self._smallest: float | None = None
        self._largest: float | None = None
        self._constant = True
        self._e4m3 = dtype in ("BF16", "F16", "F32")
        self._first: Any = None

    def add(self, run: Bytes, element: int, begin: int) -> None:
        """A run of the tensor's bytes, whole elements, from flat index `element` and byte `begin` of the file on."""
        if self._packed is not None:
            self._add_packed(run, self._packed)
            return
        if self._format is None:
            self._add_plain(run, element, begin)
            return
        codes = run.view(self._format.codes)
        signed, unsigned, zeros = sweep(codes, codes.view(f"i{codes.itemsize}"))
        if self._e4m3 and unsigned:  # zeros are numbers of any format
            self._e4m3 = self._is_on_grid(codes[:_FEW]) and self._is_on_grid(codes)
        self.absorb(codes, signed, unsigned, zeros, element, begin)

    def absorb(self, codes: npt.NDArray[Any], signed: int, unsigned: int, zeros: int, element: int, begin: int) -> None:
        """A run whose largest codes, as signed and as unsigned integers, are known."""
        form = self._format
        assert form is not None
        magnitude = form.magnitude
        self.read += codes.size
        self.zeros += zeros
        if 0 <= signed <= form.largest_finite and magnitude < unsigned <= form.largest_finite + magnitude + 1:
            self._constant = False  # there are both signs
            self._extend(-(unsigned & magnitude), signed)
            return
        self._compare(codes if unsigned else codes[:1])
        if unsigned == 0:
            self._extend(0, 0)
        else:
            nan, infinite, first, smallest, largest, found = explain(
                codes, magnitude, form.largest_finite, form.infinity
            )
            self.nan += nan
            self.infinite += infinite
            if found:
                self._extend(smallest, largest)
            if first >= 0 and self.first_nonfinite is None:
                self.first_nonfinite = self._position(codes, first, element, begin)

    @property
    def minimum(self) -> float | None:
        """The smallest finite value."""
        return self._shown(self._smallest)

    @property
    def maximum(self) -> float | None:
        """The largest finite value."""
        return self._shown(self._largest)

    @property
    def constant(self) -> bool:
        """Whether all elements, more than one, have the same bits."""
        return self._constant and self.read > 1

    @property
    def first(self) -> int | None:
        """The bits of the first element, where all have the same."""
        return int(self._first) if self._constant and self._first is not None else None

    @property
    def e4m3(self) -> bool:
        """Whether all elements, of a wider float format, are numbers that E4M3 has."""
        return self._e4m3 and self.read > 0

    def _is_on_grid(self, codes: npt.NDArray[Any]) -> bool:
        held = _on_grid("F16" if self.dtype == "F16" else "BF16")
        if self.dtype == "F32":
            return not (codes & np.uint32(0xFFFF)).any() and bool(held[codes >> np.uint32(16)].all())
        return bool(held[codes].all())

    def _shown(self, value: float | None) -> float | None:
        if value is None or self._format is None:
            return value
        return decode(self.dtype, int(value))

    def _extend(self, smallest: float, largest: float) -> None:
        self._smallest = smallest if self._smallest is None else min(self._smallest, smallest)
        self._largest = largest if self._largest is None else max(self._largest, largest)

    def _compare(self, elements: npt.NDArray[Any]) -> None:
        if self._constant:
            codes = elements.view(f"u{elements.itemsize}")
            if self._first is None:
                self._first = codes[0]
            self._constant = bool(codes[0] == self._first) and alike(codes)

    def _position(self, codes: npt.NDArray[Any], index: int, element: int, begin: int) -> Position:
        width = codes.itemsize
        place = begin + index * width
        text = f"0x{int(codes[index]) & ((1 << 8 * width) - 1):0{2 * width}x}"
        return Position(element + index, place, place + width, text)

    def _add_packed(self, run: Bytes, mask: int) -> None:
        """Elements of several codes each: what these are is their format's matter, and none is NaN."""
        elements = run.view(f"<u{packed_bytes(self.dtype, 1)}")
        self._compare(elements)
        self.read += elements.size
        self.zeros += elements.size - int(count_masked(elements, mask))

    def _add_plain(self, run: Bytes, element: int, begin: int) -> None:
        """Integers, F64, and formats of scales and none: rare, so numpy does."""
        if self.dtype in _INTEGERS:
            whole = run.view(_INTEGERS[self.dtype])
            self._compare(whole)
            self.read += whole.size
            self.zeros += whole.size - int(np.count_nonzero(whole))
            self._extend(float(whole.min()), float(whole.max()))
            return
        if self.dtype == "F64":
            values = run.view(np.float64)
        elif self.dtype == "F8_E8M0":
            values = np.where(run == 0xFF, np.nan, np.exp2(run.astype(np.float64) - 127))
        else:
            self._compare(run)
            self.read += run.size * 8 // BITS[self.dtype]
            return
        self._compare(values.view(np.uint64) if self.dtype == "F64" else run)
        self.read += values.size
        self.zeros += int(np.count_nonzero(values == 0))
        finite = np.isfinite(values)
        kept = values[finite]
        if kept.size:
            self._extend(float(kept.min()), float(kept.max()))
        if kept.size < values.size:
            self.nan += int(np.count_nonzero(np.isnan(values)))
            self.infinite += int(np.count_nonzero(np.isinf(values)))
            index = int(np.argmin(finite))
            width = run.size // values.size
            place = begin + index * width
            if self.first_nonfinite is None:
                text = quoted(float(values[index]))
                self.first_nonfinite = Position(element + index, place, place + width, text)
