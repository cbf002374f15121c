"""Tensors that are missing with a shard."""

from auditor.comparison.records import Cause, Match
from auditor.families.expectations import Expectations
from auditor.inventory.facts import Inventory


def lost(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[Cause, ...]:
    """One cause for what the index places in shards nobody read; without an index each of them may have held anything.

    The rules about files and the index tell of the shards.
    """
    missing = (*match.missing, *match.absent)
    read = {shard.path for shard in inventory.parts if shard.state == "read"}
    if inventory.index is not None and inventory.index.weight_map:
        index = inventory.index.weight_map
        names = tuple(name for name in missing if name in index and index[name] not in read)
    elif inventory.unnumbered or not read or len(read) < len(inventory.parts):
        names = missing
    else:
        names = ()
    return (Cause(names),) if names else ()
