"""The values of a tensor of block scales. Small beside its weight, so they are looked at together."""

import numpy as np
import numpy.typing as npt

from auditor.content import outcomes
from auditor.content.device import address
from auditor.content.native import entry
from auditor.probes import Position, ScaleValues

# A tensor of more values than this is no grid of block scales, whatever its name.
MOST_VALUES = 1 << 20

_BIAS = 127
_CLAMPED = [int(each.view(np.uint32)) for each in (outcomes.CLAMPED_SCALE, outcomes.CLAMPED_POWER)]
_KINDS = {
    "nan": outcomes.NAN,
    "infinite": outcomes.INFINITE,
    "zero": outcomes.ZERO_SCALE,
    "subnormal": outcomes.SUBNORMAL,
    "negative": outcomes.NEGATIVE,
    "not_power_of_two": outcomes.NO_POWER_OF_TWO,
}


def probe_scales(scale: npt.NDArray[np.float32], columns: int, begin: int, *, powers_of_two: bool) -> ScaleValues:
    """What is odd about scales (flat), and how they are spread; `begin` is their first byte in the file.

    Where they need not be powers of two, the first that is none is not pointed at.
    """
    counts, firsts, exponents = np.zeros(9, np.int64), np.full(7, -1, np.int64), np.zeros(256, np.int64)
    entry("survey")(address(scale), scale.size, *_CLAMPED, address(counts), address(firsts), address(exponents))
    odd, first = counts.tolist(), firsts.tolist()
    ordered = np.sort(scale)
    if ordered.size > odd[outcomes.POWER_OF_TWO] + odd[outcomes.NO_POWER_OF_TWO]:
        ordered = ordered[(ordered >= np.finfo(np.float32).smallest_normal) & (ordered < np.inf)]

    def at(index: int) -> Position:
        place = begin + 4 * index
        return Position(index, place, place + 4, f"{scale[index]:.9g}")

    return ScaleValues(
        values=scale.size,
        columns=columns,
        nan=odd[outcomes.NAN],
        infinite=odd[outcomes.INFINITE],
        zero=odd[outcomes.ZERO_SCALE],
        negative=odd[outcomes.NEGATIVE],
        subnormal=odd[outcomes.SUBNORMAL],
        powers_of_two=odd[outcomes.POWER_OF_TWO],
        clamped=odd[outcomes.CLAMPED],
        bf16=odd[outcomes.BF16],
        minimum=float(ordered[0]) if ordered.size else None,
        median=float(ordered[ordered.size // 2]) if ordered.size else None,
        maximum=float(ordered[-1]) if ordered.size else None,
        exponents={each - _BIAS: int(exponents[each]) for each in np.flatnonzero(exponents).tolist()},
        first={
            name: at(first[kind])
            for name, kind in _KINDS.items()
            if first[kind] >= 0 and (powers_of_two or kind != outcomes.NO_POWER_OF_TWO)
        },
        largest=at(first[outcomes.LARGEST_SCALE]) if ordered.size else None,
    )
