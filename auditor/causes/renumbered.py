"""Layers that are numbered from another number than 0."""

from auditor.comparison import Match, Renumbering
from auditor.expectations import Expectations
from auditor.facts import Inventory
from auditor.names import layer_of

_REMAINING = 0.1  # share of disagreements that may stay for the numbers to be what is wrong


def renumbered(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[Renumbering, ...]:
    """The distance by which all layers are numbered too high, where nearly all disagreements vanish without it."""
    stored = {name: layer for name in inventory.tensors if (layer := layer_of(name)) is not None}
    by = min(stored.values(), default=0)
    if not by or not (match.unexpected or match.misshapen):
        return ()
    expected = expectations.names
    fitting: dict[str, str] = {}
    for name, layer in stored.items():
        needed = f"model.layers.{layer - by}.{name.split('.', 3)[3]}"
        row = expected.get(needed)
        if row is not None and row.shape == inventory.tensors[name].shape:
            fitting[name] = needed
    known = {*fitting, *fitting.values()}
    disagreeing = {*match.missing, *match.unexpected, *match.misshapen, *match.mistyped}
    if len(disagreeing - known) > _REMAINING * len(disagreeing):
        return ()
    example = next(iter(fitting))
    return (
        Renumbering(
            tuple(each for each in known if each in disagreeing or each in match.absent), by, example, fitting[example]
        ),
    )
