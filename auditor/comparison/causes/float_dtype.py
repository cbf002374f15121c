"""Unquantised tensors that are all of one float dtype, which is not the one that the config gives them."""

from collections import Counter

from auditor.comparison.records import FloatDtype, Match
from auditor.families.expectations import Expectations
from auditor.format.dtypes import FLOATS
from auditor.inventory.facts import Inventory

_MAJORITY = 0.9


def float_dtype(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[FloatDtype, ...]:
    """One cause where each kind of weight that stays unquantised has another dtype, with the norms that have it too."""
    tensors = inventory.tensors
    plain = [row for row in expectations.layers_of if row.role in ("weight", "vocabulary") and not row.quantised]
    needed = {row.dtype for row in plain}
    votes = Counter(
        tensors[name].dtype
        for name, row in match.mistyped.items()
        if row.role in ("weight", "vocabulary") and not row.quantised and tensors[name].dtype in FLOATS
    )
    if not votes or len(needed) != 1:
        return ()
    actual, dtype = votes.most_common(1)[0][0], needed.pop()
    for row in plain:
        held = Counter(tensors[name].dtype for name in expectations.names_of(row) if name in tensors)
        if held[actual] < _MAJORITY * held.total():
            return ()
    names = tuple(
        name
        for row in expectations.layers_of
        if row.dtype == dtype and not row.quantised
        for name in expectations.names_of(row)
        if name in tensors and tensors[name].dtype == actual
    )
    return (FloatDtype(names, actual, dtype),)
