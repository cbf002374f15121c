"""Which relation two weights have, by what was measured of them, and what was done to one that differs. Pure."""

from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from auditor.content.fp8 import Floats
from auditor.content.kernels import compare
from auditor.conversion import grids
from auditor.conversion.edges import Edges
from auditor.conversion.facts import FORMULAS, Pair, Relation
from auditor.format.dtypes import FP8

STORAGE = {"BF16": compare.AS_BFLOAT16, "F16": compare.AS_HALF}  # of scales that are not in F32
# Half the distance of two neighbours, relative to the value.
BOUNDS = {"F32": 2.0**-24, "BF16": 2.0**-8, "F16": 2.0**-11, FP8: 2.0**-4}
SLACK = 1 + 2.0**-10  # for the arithmetic of the error itself
# Formulas by which what is stored is not what the codes were made with.
_FAULTS = (compare.SCALE_IN_BF16, compare.SCALE_IN_F16)
_ROUNDED = {"BF16": "to the nearest BF16", "F16": "to the nearest F16", "F32": "exact in F32"}


class Outcome(NamedTuple):
    """Which relation, by which formula, and what was recognised."""

    relation: Relation
    formula: str = ""
    fault: str = ""
    formulas: tuple[str, ...] = ()


class Measured(NamedTuple):
    """What strips of a pair have shown, each block in its place (r × c).

    `seen` are the blocks read, `measured` those that were looked at value by value, as their bytes do not say it all.
    `counts`, `sums` and `formulas` (of values as they are, and in BF16) are those of the kernels, `amax` is of OLD's
    values. `in_bf16`: every strip that was measured is a cast by OLD's scales in BF16.
    """

    pair: Pair
    scales: tuple[Floats | None, Floats | None]
    same_codes: bool
    same_scales: bool
    same_blocks: bool
    in_bf16: bool
    seen: npt.NDArray[np.bool_]
    measured: npt.NDArray[np.bool_]
    counts: npt.NDArray[np.int64]
    formulas: npt.NDArray[np.int64]
    sums: npt.NDArray[np.float64]
    amax: npt.NDArray[np.float32]


def outcome_of(found: Measured) -> Outcome:
    """The relation of a pair, and by which formula."""
    old, new, counts = found.pair.old, found.pair.new, found.counts
    if found.same_codes and found.same_scales:
        same = old.scale is None or new.scale is None or old.scale.dtype == new.scale.dtype
        return Outcome("same_bytes" if same else "same_values")
    if counts[compare.NOT_FINITE]:
        beyond = f"values beyond the largest {new.dtype}" if counts[compare.UNEQUAL] == 0 else ""
        return Outcome("different", fault=beyond)
    if counts[compare.UNEQUAL] == 0:
        if counts[compare.CHANGED] and old.dtype != FP8:
            return Outcome("rounded", _ROUNDED[new.dtype])
        if old.dtype == FP8 and new.dtype != FP8:
            return Outcome("same_values", f"FP8 × scale, {_ROUNDED[new.dtype]}")
        if new.dtype != FP8 or old.dtype == FP8:
            return Outcome("same_values")
    if new.dtype == FP8 and old.dtype != FP8 and counts[compare.REVERSE] == 0:
        return Outcome("same_values", f"NEW's FP8 × scale, {_ROUNDED[old.dtype]}, is OLD's")
    if found.same_codes and new.dtype == FP8 and found.same_blocks:
        return _by_scales(found)
    followed = _followed(found)
    if followed is not None:
        return followed
    if new.dtype in STORAGE and counts[compare.CUT] == 0:
        return Outcome("rounded", f"towards zero, to {new.dtype}")
    if new.dtype == "F32" and counts[compare.THROUGH_BF16] == 0:
        return Outcome("rounded", "through BF16")
    if found.in_bf16:
        return Outcome("different", fault="scales rounded through BF16")
    return Outcome("rounded" if counts[compare.BEYOND] == 0 else "different")


def _by_scales(found: Measured) -> Outcome:
    """Codes are the same, so that the scales decide: within what their own dtype rounds, or by a formula."""
    one, other = found.scales
    at = found.pair.new.scale
    if one is None or other is None or at is None:
        return Outcome("different")
    bound = {"BF16": 2.0**-8, "F16": 2.0**-11}.get(at.dtype, 0.0)
    with np.errstate(all="ignore"):
        moved = np.abs(other.astype(np.float64) - one) / np.abs(one)
    if (moved[found.seen] <= bound * SLACK).all():
        return Outcome("rounded", f"scales to the nearest {at.dtype}")
    return _followed(found) or Outcome("different")


def _followed(found: Measured) -> Outcome | None:
    """The formulas by which every block follows from the other side."""
    blocks, short = int(found.seen.sum()), int((found.seen & ~found.measured).sum())
    coded = found.pair.new if found.pair.new.dtype == FP8 else found.pair.old
    fit: list[str] = []
    for through, counts in zip(("", " of values rounded to BF16"), found.formulas.tolist(), strict=True):
        for formula, count in enumerate(counts):
            if not count or count + short != blocks:
                continue
            if formula in _FAULTS and not fit:
                return Outcome("different", FORMULAS[formula], FORMULAS[formula].partition(", ")[2])
            if formula not in _FAULTS:
                dtype = "" if coded.scale is None else coded.scale.dtype
                stored = f", scales to the nearest {dtype}" if dtype in STORAGE else ""
                fit.append(FORMULAS[formula] + through + stored)
    return Outcome("requantised", fit[0], formulas=tuple(fit)) if fit else None


def blocks_apart(found: Measured) -> int:
    """How many blocks have values that differ beyond the bound, told by their sums."""
    old, new, both = (found.sums[:, :, place] for place in range(compare.SUMS))
    with np.errstate(all="ignore"):
        near = old + new - 2 * both <= BOUNDS[found.pair.new.dtype] ** 2 * old
    return int(np.count_nonzero(~near & found.measured))


def likeness_of(found: Measured) -> float:
    """The correlation of new and old values, in blocks that are not the same."""
    old, new, both = found.sums[found.measured].reshape(-1, compare.SUMS).sum(axis=0).tolist()
    size = sqrt(old * new) if np.isfinite(old * new) and old * new > 0 else 0.0
    return both / size if size else 0.0


def fault_of(found: Measured, edges: Edges) -> str:
    """What was done to a pair that differs; empty where that does not show."""
    old, new = found.pair.old, found.pair.new
    if new.dtype == FP8 and new.scale is None and old.scale is not None:
        return "its scales are not there"
    fault = edges.fault()
    if fault:
        return fault
    sums = np.where(found.measured[:, :, None], found.sums, found.seen[:, :, None] * 1.0)
    fine = new.dtype != FP8 or found.same_codes
    # A code has eight mantissas: what BF16 rounds of them with a scale does not average out.
    tolerance = 2.0**-7 if fine else 2.0**-5
    shape = found.amax.shape
    if found.scales[0] is not None and found.scales[0].shape == shape:
        right = found.scales[0].astype(np.float64)
        if found.same_codes and found.scales[1] is not None:
            tolerance = 2.0**-20  # the scales alone have changed
        return grids.fault_of(sums, right, coded="old", tolerance=tolerance)
    if found.scales[1] is None or found.scales[1].shape != shape:
        return grids.fault_of(sums, np.ones(shape), coded="", tolerance=tolerance)
    with np.errstate(all="ignore"):  # the scales that codes would have had to be multiplied by
        right = found.scales[1] * sums[:, :, compare.OLD] / sums[:, :, compare.BOTH]
    return grids.fault_of(sums, right, coded="new", tolerance=tolerance)
