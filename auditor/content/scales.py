"""The values of a tensor of block scales. Small beside its weight, so numpy looks at it whole."""

from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.content.outcomes import CLAMPED_POWER, CLAMPED_SCALE
from auditor.probes import Position, ScaleValues

# A tensor of more values than this is no grid of block scales, whatever its name.
MOST_VALUES = 1 << 20
_NO_EXPONENT = 255


def probe_scales(scale: npt.NDArray[np.float32], columns: int, begin: int, *, powers_of_two: bool) -> ScaleValues:
    """What is odd about scales (flat), and how they are spread; `begin` is their first byte in the file.

    Where they need not be powers of two, the first that is none is not pointed at.
    """
    bits = scale.view(np.uint32)
    exponent = (bits >> np.uint32(23)) & np.uint32(0xFF)
    mantissa = bits & np.uint32(0x7FFFFF)
    negative = (bits >> np.uint32(31)) != 0
    special = exponent == _NO_EXPONENT
    flat = exponent == 0
    power = ~special & ~flat & (mantissa == 0) & ~negative
    usable = ~special & ~flat & ~negative
    kinds: dict[str, npt.NDArray[Any]] = {
        "nan": special & (mantissa != 0),
        "infinite": special & (mantissa == 0),
        "zero": flat & (mantissa == 0),
        "subnormal": flat & (mantissa != 0) & ~negative,
        "negative": negative & ~special & (exponent + mantissa > 0),
    }
    if powers_of_two:
        kinds["not_power_of_two"] = usable & ~power
    counts = {kind: int(np.count_nonzero(found)) for kind, found in kinds.items()}

    def at(index: int) -> Position:
        place = begin + 4 * index
        return Position(index, place, place + 4, f"{scale[index]:.9g}")

    good = scale[usable]
    ordered = np.sort(good)
    where, often = np.unique(exponent[usable].astype(np.int64) - 127, return_counts=True)

    return ScaleValues(
        values=scale.size,
        columns=columns,
        nan=counts["nan"],
        infinite=counts["infinite"],
        zero=counts["zero"],
        negative=counts["negative"],
        subnormal=counts["subnormal"],
        powers_of_two=int(np.count_nonzero(power)),
        clamped=int(np.count_nonzero((scale == CLAMPED_SCALE) | (scale == CLAMPED_POWER))),
        bf16=int(np.count_nonzero(usable & ((bits & np.uint32(0xFFFF)) == 0))),
        minimum=float(ordered[0]) if ordered.size else None,
        median=float(ordered[ordered.size // 2]) if ordered.size else None,
        maximum=float(ordered[-1]) if ordered.size else None,
        exponents=dict(zip(where.tolist(), often.tolist(), strict=True)),
        first={kind: at(int(np.argmax(found))) for kind, found in kinds.items() if counts[kind]},
        largest=at(int(np.argmax(np.where(usable, scale, np.float32(0))))) if ordered.size else None,
    )
