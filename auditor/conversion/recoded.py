"""Two sides of codes where each code of a block became one other: what says all of a block are the codes that occur."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from auditor.content.device import Bytes
from auditor.content.fp8 import Floats, decode_table
from auditor.content.kernels.pairs import find_code, pair_codes

CODES = 256
_TABLE = decode_table()


class Recoded(NamedTuple):
    """The codes of a strip's blocks, by value, which are numbers on both sides.

    `old_rck` and `new_rck` are the values of each code of the old side and of what it became, `code_rck` the code it
    became, `count_rck` how often it occurs. Codes that do not occur stand for one that does.
    """

    old_rck: Floats
    new_rck: Floats
    code_rck: npt.NDArray[np.uint8]
    count_rck: npt.NDArray[np.int32]


class Differences(NamedTuple):
    """How the new values differ from the old ones: how many, the largest relative error, the sum of their squares.

    `sums_rcs` are sums over each block: of old squared, of new squared, of their products. `first` is the first element
    of the strip that differs, or -1.
    """

    unequal: int
    largest: float
    squares: float
    sums_rcs: npt.NDArray[np.float64]
    first: int


def recoded(
    one: Bytes, other: Bytes, columns: int, rows: npt.NDArray[np.int64], width: int, scale_rc: tuple[Floats, Floats]
) -> Recoded | None:
    """A strip's blocks by their codes; None where some code became two, or something is no number.

    `rows` has the row of blocks of each row, `scale_rc` the scales of these blocks on both sides.
    """
    shape = (*scale_rc[0].shape, CODES)
    partner, count = np.zeros(shape, np.uint8), np.zeros(shape, np.int32)
    if not pair_codes(one, other, columns, rows, width, partner, count):
        return None
    some = count.argmax(axis=2)[:, :, None]
    absent = count == 0
    own = np.where(absent, some, np.arange(CODES))
    code = np.where(absent, np.take_along_axis(partner, some, axis=2), partner)
    with np.errstate(all="ignore"):
        old, new = _TABLE[own] * scale_rc[0][:, :, None], _TABLE[code] * scale_rc[1][:, :, None]
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        return None
    return Recoded(old, new, code, count)


def differences(
    found: Recoded, codes: Bytes, columns: int, rows: npt.NDArray[np.int64], width: int, floor_rc: Floats, bound: float
) -> Differences | None:
    """How a strip's values differ; None where an error, relative to the value or the floor, is beyond the bound."""
    old, new, count = found.old_rck, found.new_rck, found.count_rck
    error = np.abs(new - old) / np.maximum(np.abs(old), floor_rc[:, :, None])
    if (error > np.float32(bound)).any():
        return None
    unequal = (old != new) & (count > 0)
    first = find_code(codes, columns, rows, width, unequal) if unequal.any() else -1
    wide = [each.astype(np.float64) for each in (old, new)]
    sums = [(one * other * count).sum(axis=2) for one, other in ((wide[0], wide[0]), (wide[1], wide[1]), wide)]
    return Differences(
        unequal=int(count[unequal].sum(dtype=np.int64)),
        largest=float(error.max()),
        squares=float((error.astype(np.float64) ** 2 * count).sum()),
        sums_rcs=np.stack(sums, axis=2),
        first=first,
    )
