"""Layers that are numbered from another number than 0."""

from auditor.comparison.records import Match, Renumbering
from auditor.families.expectations import Expectations
from auditor.inventory.facts import Inventory

_REMAINING = 0.1  # share of disagreements that may stay for the numbers to be what is wrong


def find_renumbering(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[Renumbering, ...]:
    """The distance by which all layers are numbered too high, where nearly all disagreements vanish without it."""
    if 0 not in match.missing_layers or not (match.unexpected or match.misshapen):
        return ()
    stored = {name: layer for name in inventory.tensors if (layer := expectations.naming.layer_of(name)) is not None}
    by = min(stored.values(), default=0)
    expected = expectations.names
    fitting: dict[str, str] = {}
    for name, layer in stored.items():
        needed = expectations.naming.prefix(layer - by) + name[len(expectations.naming.prefix_in(name)) :]
        row = expected.get(needed)
        if row is not None and row.shape == inventory.tensors[name].shape:
            fitting[name] = needed
    there = set(fitting.values())
    lacking = tuple(name for name, row in expected.items() if not (row.top or row.optional) and name not in there)
    known = {*fitting, *there, *lacking}
    disagreeing = {*match.missing, *match.absent, *match.unexpected, *match.misshapen, *match.mistyped}
    if not fitting or len(disagreeing - known) + len(lacking) > _REMAINING * len(disagreeing):
        return ()
    stored_name, example = next(iter(fitting.items()))
    return (Renumbering(tuple(sorted(disagreeing & known)), by, stored_name, example, lacking),)
