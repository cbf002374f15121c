"""All that is amiss where the shards are those of an MTP module alone."""

from itertools import chain

from auditor.comparison.records import Cause, Match
from auditor.families.expectations import Expectations
from auditor.families.scaling import MTP_MARKS
from auditor.format.entries import Shard
from auditor.inventory.facts import Inventory
from auditor.patterns import layer_of


def exported_module(inventory: Inventory) -> tuple[Shard, ...]:
    """The shards, where all they hold is an MTP module, and they are no part of more that names or index count."""
    read = {shard.path for shard in inventory.shards if shard.state == "read"}
    named = inventory.index.places if inventory.index is not None else set()
    if inventory.unnumbered is not None or (named & read and not named <= read):
        return ()
    marked = False
    layers: set[int] = set()
    for shard in inventory.shards:
        for name in chain.from_iterable(shard.kinds.values()):  # names are enough: no tensor is made for this
            layer = layer_of(name)
            if layer is not None:
                layers.add(layer)
            # Under a wrapper's names nothing tells how many layers there are.
            elif ".layers." in name:
                return ()
            if len(layers) > 1:
                return ()
            marked = marked or name.endswith(MTP_MARKS)
    return inventory.shards if marked and layers else ()


def find_part(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[Cause, ...]:
    """One cause for everything: a part of a checkpoint shows nothing of the whole."""
    if not exported_module(inventory):
        return ()
    return (Cause((*match.missing, *match.absent, *match.unexpected, *match.misshapen, *match.mistyped)),)
