"""Tensors without an element: placeholders of a partitioned model that was saved without gathering its parameters."""

from auditor.comparison.records import Cause, Match
from auditor.families.expectations import Expectations
from auditor.format.entries import elements
from auditor.inventory.facts import Inventory


def empty(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[Cause, ...]:
    """One cause for all tensors whose shape has a 0 where the config needs none, and for their scales."""
    names = [name for name in match.misshapen if not elements(inventory.tensors[name].shape)]
    scales = [scale for name in names for scale in expectations.beside(name)]
    there = [name for name in scales if name in match.missing]
    return (Cause((*names, *there)),) if names else ()
