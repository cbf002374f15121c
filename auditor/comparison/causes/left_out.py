"""Layers that the shards hold and both config and index leave out: a model cut by editing the two alone."""

from auditor.comparison.records import LeftOut, Match
from auditor.families.expectations import Expectations
from auditor.inventory.facts import Inventory


def left_out(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[LeftOut, ...]:
    """Layers behind the main model of which the index has no tensor and the shards have some."""
    naming = expectations.naming
    if inventory.index is None or not inventory.index.weight_map or inventory.indexed:
        return ()
    index = inventory.index.weight_map
    layers = {layer for each in expectations.templates for layer in each.layers}
    end = len(layers) - len(expectations.mtp_layers)
    behind: dict[int, list[str]] = {}
    for name in inventory.tensors:
        layer = naming.layer_of(name)
        if layer is not None and layer >= end:
            behind.setdefault(layer, []).append(name)
    cut = {layer for layer, names in behind.items() if not any(name in index for name in names)}
    # An MTP module that the config promises is no more there than the layer whose number it has.
    promised = tuple(
        name for name in (*match.missing, *match.absent) if naming.layer_of(name) in cut and name not in index
    )
    # A module alone that nobody declares is told as one.
    if not cut:
        return ()
    stored = tuple(name for layer in sorted(cut) for name in behind[layer])
    return (LeftOut((*stored, *promised), tuple(sorted(cut)), end, len(stored)),)
