"""The values of a tensor of block scales, of any float dtype and size, run by run in bounded memory."""

from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.content.device import Bytes
from auditor.content.formats import Beside
from auditor.content.fp8 import Floats
from auditor.content.kernels import survey
from auditor.content.plan import Part
from auditor.content.stored import CODES, as_floats
from auditor.content.values import Position, ScaleValues
from auditor.format.dtypes import packed_bytes

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


def survey_of(part: Part) -> "Survey | CodeSurvey | None":
    """What is to look at a tensor of scales, whatever its shape, size and shard; None of another tensor."""
    beside = part.beside
    if beside is None or beside.kind == "shape":
        return None
    if part.dtype in CODES:
        return CodeSurvey(part, beside)
    return Survey(part, powers_of_two=beside.powers_of_two)


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
        if self._range is None or least < self._range[0]:
            self._firsts[survey.SMALLEST] = self._position(scale, smallest, element)
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
            f16=odd[survey.F16],
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
            smallest=self._firsts.get(survey.SMALLEST),
            **_of(self._part.beside),
        )


def _of(beside: Beside | None) -> dict[str, Any]:
    """What scales are of, as ScaleValues has it."""
    if beside is None or beside.kind == "shape":
        return {}
    return {"weight": beside.weight, "kind": beside.kind, "largest_code": beside.largest}


class CodeSurvey:
    """The same of scales that are codes of 8 bits, by how often each code occurs: there are many, a sixteenth of all.

    A power of two of E8M0 is usable from 2^-127 on, a number of E4M3 from 2^-9 on.
    """

    def __init__(self, part: Part, beside: Beside) -> None:
        self._part = part
        self._beside = beside
        self._value = CODES[part.dtype]
        self._counts = np.zeros(256, np.int64)
        self._firsts: dict[int, int] = {}

    def add(self, run: Bytes, element: int) -> None:
        """A run of the tensor's bytes, from flat index `element` on."""
        counts = np.zeros(256, np.int64)
        survey.count_codes(run, counts)
        ends = self._ends(counts)
        for code in np.flatnonzero((counts > 0) & (self._counts == 0)).tolist():
            if not self._value[code] > 0 or code in ends:  # what is pointed at
                self._firsts[code] = element + int(np.argmax(run == code))
        self._counts += counts

    @property
    def codes(self) -> dict[int, tuple[int, int]]:
        """How often each code was seen, and the first element that has it, or -1 where it is not pointed at."""
        return {
            code: (int(self._counts[code]), self._firsts.get(code, -1))
            for code in np.flatnonzero(self._counts).tolist()
        }

    def add_codes(self, codes: dict[int, tuple[int, int]]) -> None:
        """What another has seen of the elements that follow."""
        for code, (count, first) in codes.items():
            if first >= 0 and not self._counts[code]:
                self._firsts[code] = first
            self._counts[code] += count

    def _ends(self, counts: npt.NDArray[np.int64]) -> tuple[int, ...]:
        """The codes of the smallest and the largest scale."""
        there = np.flatnonzero((counts > 0) & (self._value > 0))
        ordered = there[np.argsort(self._value[there])].tolist()
        return tuple(ordered[:1] + ordered[-1:])

    def _position(self, kind: npt.NDArray[np.bool_]) -> Position | None:
        places = [(self._firsts[code], code) for code in np.flatnonzero(kind).tolist() if code in self._firsts]
        if not places:
            return None
        element, code = min(places)
        begin = self._part.begin + element
        return Position(element, begin, begin + 1, f"{self._value[code]:.9g}")

    def result(self) -> ScaleValues:
        """What has been seen."""
        value, counts, shape = self._value.astype(np.float64), self._counts, self._part.shape
        usable = (counts > 0) & (value > 0)
        kinds = {"nan": np.isnan(value), "zero": value == 0, "negative": value < 0}
        ordered = np.flatnonzero(usable)[np.argsort(value[usable], kind="stable")]
        reached = np.cumsum(counts[ordered])
        exponents = np.floor(np.log2(value[ordered])).astype(int)
        firsts = {name: self._position(kind) for name, kind in kinds.items()}
        median = ordered[int(np.searchsorted(reached, reached[-1] // 2, side="right"))] if ordered.size else None
        return ScaleValues(
            values=int(counts.sum()),
            columns=shape[-1] if shape else 1,
            nan=int(counts[kinds["nan"]].sum()),
            zero=int(counts[kinds["zero"]].sum()),
            negative=int(counts[kinds["negative"]].sum()),
            powers_of_two=int(counts[ordered][np.frexp(value[ordered])[0] == 0.5].sum()),
            minimum=float(value[ordered[0]]) if ordered.size else None,
            median=None if median is None else float(value[median]),
            maximum=float(value[ordered[-1]]) if ordered.size else None,
            exponents={each: int(counts[ordered][exponents == each].sum()) for each in sorted(set(exponents.tolist()))},
            first={name: place for name, place in firsts.items() if place is not None},
            largest=self._position(np.arange(256) == ordered[-1]) if ordered.size else None,
            smallest=self._position(np.arange(256) == ordered[0]) if ordered.size else None,
            **_of(self._beside),
        )
