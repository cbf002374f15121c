"""The first rows and columns of both sides of a pair, by which a tensor, or a half of one, is known again."""

import numpy as np
import numpy.typing as npt

from auditor.content.fp8 import Floats
from auditor.conversion.facts import Pair, Sketch

WIDTH = 8  # rows and columns that are kept
_SKETCH = 64  # values by which a tensor is known again
_LEAST = 8  # rows or columns of a half that says something
_APART = 2.0**-8  # of the sum of squares, which rounding to codes stays below


class Edges:
    """What has been seen of a pair so far, where all of it is read."""

    def __init__(self, pair: Pair) -> None:
        self._rows, self._columns = pair.old.rows, pair.old.columns
        self._whole = not pair.rows
        self._tops: list[Floats] = []
        self._sides: tuple[list[Floats], list[Floats]] = ([], [])

    @property
    def needs_top(self) -> bool:
        """Whether the first rows have not been seen."""
        return not self._tops

    def add_top(self, old_RC: Floats, new_RC: Floats) -> None:
        """The first rows that are read."""
        self._tops = [old_RC.copy(), new_RC.copy()]

    def add(self, old_RC: Floats, new_RC: Floats) -> None:
        """The first columns of the next rows."""
        if self._whole:
            self._sides[0].append(old_RC.copy())
            self._sides[1].append(new_RC.copy())

    def sketch(self, side: int) -> Sketch:
        """The first values of one side."""
        return Sketch(tuple(map(float, self._tops[side][0, :_SKETCH])) if self._tops else ())

    def fault(self) -> str:
        """A half of the new side that is the other half again, or a transposed weight; else nothing."""
        if not self._whole or not self._tops:
            return ""
        old_top, new_top = self._tops
        old_side, new_side = (np.concatenate(each) for each in self._sides)
        if _doubled(new_top.T) and not _doubled(old_top.T):
            return "one half of its columns is the other half again"
        if _doubled(new_side) and not _doubled(old_side):
            return "one half of its rows is the other half again"
        if self._rows == self._columns > WIDTH and _alike(new_top.T, old_side) and not _alike(old_top.T, old_side):
            return "the weight transposed"
        return ""


def alike(one: Sketch, other: Sketch) -> bool:
    """Whether two sketches are of the same values, but for rounding to codes."""
    if len(one.values) != len(other.values) or not one.values:
        return False
    return _alike(np.array(one.values), np.array(other.values))


def _doubled(values: npt.NDArray[np.floating]) -> bool:
    half, odd = divmod(len(values), 2)
    return not odd and half >= _LEAST and values.min() < values.max() and _alike(values[:half], values[half:])


def _alike(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> bool:
    if one.shape != other.shape:
        return False
    with np.errstate(all="ignore"):
        size = float(np.square(other, dtype=np.float64).sum())
        apart = float(np.square(one.astype(np.float64) - other).sum())
    return size > 0 and apart <= size * _APART
