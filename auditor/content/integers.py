"""What tensors of whole numbers say: the unpacked shape of a weight, and tables of numbers below a bound."""

import numpy as np
import numpy.typing as npt

from auditor.content.device import Bytes
from auditor.content.plan import Part
from auditor.content.values import Position, TableValues

_MOST = 8  # numbers of a shape that are kept; weights have two dimensions, fused ones three
_DTYPES = {"I32": "<i4", "I64": "<i8"}


class SaidShape:
    """The numbers of a tensor that says its weight's unpacked shape."""

    def __init__(self, part: Part) -> None:
        self._dtype = _DTYPES[part.dtype]
        self._numbers: list[int] = []

    def add(self, run: Bytes, element: int) -> None:
        """A run of the tensor's bytes, from flat index `element` on."""
        if element < _MOST:
            self._numbers += run.view(self._dtype)[: _MOST - element].tolist()

    def result(self) -> tuple[int, ...]:
        """The first numbers, of a shape all of them."""
        return tuple(self._numbers)


class Table:
    """A table (R × C) of whole numbers from 0 to below a bound, those of one row all different."""

    def __init__(self, part: Part) -> None:
        assert part.below is not None
        self._part = part
        self._below = part.below
        self._dtype = _DTYPES[part.dtype]
        self._outside = self._repeated = self._rows = 0
        self._first_outside: Position | None = None
        self._first_repeated: Position | None = None

    def add(self, run: Bytes, element: int) -> None:
        """A run of whole rows of the tensor's bytes, from flat index `element` on."""
        values_RC = run.view(self._dtype).reshape(-1, self._part.shape[1])
        self._rows += len(values_RC)
        outside = (values_RC < 0) | (values_RC >= self._below)
        if outside.any():
            self._outside += int(np.count_nonzero(outside))
            self._first_outside = self._first_outside or self._position(values_RC, int(outside.argmax()), element)
        order_RC = np.sort(values_RC, axis=1)
        repeated = (order_RC[:, 1:] == order_RC[:, :-1]).any(axis=1)
        if repeated.any():
            self._repeated += int(np.count_nonzero(repeated))
            first = int(repeated.argmax()) * values_RC.shape[1]
            self._first_repeated = self._first_repeated or self._position(values_RC, first, element)

    def _position(self, values_RC: npt.NDArray[np.integer], index: int, element: int) -> Position:
        width = values_RC.itemsize
        begin = self._part.begin + (element + index) * width
        return Position(element + index, begin, begin + width, str(int(values_RC.flat[index])))

    def result(self) -> TableValues:
        """What has been seen."""
        return TableValues(
            below=self._below,
            rows=self._rows,
            outside=self._outside,
            repeated=self._repeated,
            first_outside=self._first_outside,
            first_repeated=self._first_repeated,
        )
