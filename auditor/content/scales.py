"""The values of a tensor of block scales, of any float dtype and size, run by run in bounded memory."""

from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.content.device import Bytes
from auditor.content.kernels import survey
from auditor.content.plan import SCALE_DTYPES, Part
from auditor.content.probes import Position, ScaleValues
from auditor.families.scaling import SCALE_SUFFIX
from auditor.format.dtypes import packed_bytes

Floats = npt.NDArray[np.float32]
# The median of more values than this, which no release has in one grid, is told to the 8 bits of BF16.
EXACT_VALUES = 1 << 20

_BIAS = 127
_KINDS = {
    "nan": survey.NAN,
    "infinite": survey.INFINITE,
    "zero": survey.ZERO,
    "subnormal": survey.SUBNORMAL,
    "negative": survey.NEGATIVE,
    "not_power_of_two": survey.NO_POWER_OF_TWO,
}


def holds_scales(part: Part) -> bool:
    """Whether a tensor is a weight's block scales by the name that pairs it, whatever its shape, size and shard."""
    return part.name.endswith(SCALE_SUFFIX) and part.dtype in SCALE_DTYPES


def as_floats(data: Any, dtype: str) -> Floats:
    """Scales stored in one of SCALE_DTYPES as float32, which holds all of them but F64's exactly."""
    if dtype == "F32":
        return np.frombuffer(data, np.float32)
    if dtype == "BF16":
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "F8_E8M0":
        exponents = np.frombuffer(data, np.uint8)
        powers = np.ldexp(np.float64(1), exponents.astype(np.int32) - _BIAS)
        return np.where(exponents == 0xFF, np.nan, powers).astype(np.float32)
    with np.errstate(over="ignore"):  # infinite as float32: no scale either way
        return np.frombuffer(data, np.float16 if dtype == "F16" else np.float64).astype(np.float32)


class Survey:
    """What has been seen of a tensor of scales so far: what is odd about them, and how they are spread.

    `begin` is its first byte in the file. Where scales need not be powers of two, the first that is none is not
    pointed at.
    """

    def __init__(self, part: Part, *, powers_of_two: bool) -> None:
        self._part = part
        self._width = packed_bytes(part.dtype, 1)
        self._powers_of_two = powers_of_two
        self._counts, self._exponents = np.zeros(survey.COUNTS, np.int64), np.zeros(256, np.int64)
        self._firsts: dict[int, Position] = {}
        self._values = 0
        self._range: tuple[float, float] | None = None
        self._kept: list[Floats] | None = [] if part.elements <= EXACT_VALUES else None
        self._upper: npt.NDArray[np.int64] | None = None if self._kept is not None else np.zeros(1 << 16, np.int64)

    def add(self, run: Bytes, element: int) -> None:
        """A run of the tensor's bytes, from flat index `element` on."""
        scale = as_floats(run.data, self._part.dtype)
        firsts = np.full(survey.FIRSTS, -1, np.int64)
        survey.survey(scale.view(np.uint32), self._counts, firsts, self._exponents)
        self._values += scale.size
        *odd, largest, smallest = firsts.tolist()
        for kind, index in enumerate(odd):
            if index >= 0:
                self._firsts.setdefault(kind, self._position(scale, index, element))
        if largest < 0:
            return
        least, most = float(scale[smallest]), float(scale[largest])
        if self._range is None or most > self._range[1]:
            self._firsts[survey.LARGEST] = self._position(scale, largest, element)
        self._range = (least, most) if self._range is None else (min(least, self._range[0]), max(most, self._range[1]))
        usable = scale
        if max(odd[: survey.NO_POWER_OF_TWO]) >= 0:  # NaN to subnormal
            usable = scale[(scale >= np.finfo(np.float32).smallest_normal) & (scale < np.inf)]
        if self._kept is not None:
            self._kept.append(np.array(usable))
        elif self._upper is not None:
            self._upper += np.bincount(usable.view(np.uint32) >> np.uint32(16), minlength=1 << 16)

    def _position(self, scale: Floats, index: int, element: int) -> Position:
        place = self._part.begin + (element + index) * self._width
        return Position(element + index, place, place + self._width, f"{scale[index]:.9g}")

    def _median(self) -> float | None:
        if self._range is None:
            return None
        if self._kept is not None:
            ordered = np.concatenate(self._kept)
            ordered.sort()
            return float(ordered[ordered.size // 2])
        assert self._upper is not None
        reached = np.cumsum(self._upper)
        middle = int(np.searchsorted(reached, reached[-1] // 2, side="right"))
        return float(np.uint32(middle << 16).view(np.float32))

    def result(self) -> ScaleValues:
        """What has been seen."""
        odd, shape = self._counts.tolist(), self._part.shape
        return ScaleValues(
            values=self._values,
            columns=shape[-1] if shape else 1,
            nan=odd[survey.NAN],
            infinite=odd[survey.INFINITE],
            zero=odd[survey.ZERO],
            negative=odd[survey.NEGATIVE],
            subnormal=odd[survey.SUBNORMAL],
            powers_of_two=odd[survey.POWER_OF_TWO],
            clamped=odd[survey.CLAMPED],
            bf16=odd[survey.BF16],
            published=odd[survey.PUBLISHED],
            reciprocal=odd[survey.RECIPROCAL],
            minimum=self._range[0] if self._range is not None else None,
            median=self._median(),
            maximum=self._range[1] if self._range is not None else None,
            exponents={each - _BIAS: int(self._exponents[each]) for each in np.flatnonzero(self._exponents).tolist()},
            first={
                name: self._firsts[kind]
                for name, kind in _KINDS.items()
                if kind in self._firsts and (self._powers_of_two or kind != survey.NO_POWER_OF_TWO)
            },
            largest=self._firsts.get(survey.LARGEST),
        )
