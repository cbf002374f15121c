"""Tensors that are missing with a shard: one that the index names and nobody read, or any where shards are missing."""

import re

from auditor.comparison import Cause, Match
from auditor.expectations import Expectations
from auditor.facts import Inventory

_OF = re.compile(r"-of-([0-9]{1,9})\.safetensors$")


def lost(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[Cause, ...]:
    """One cause for all of them; the rules about files and the index tell of the shards."""
    missing = (*match.missing, *match.absent)
    read = {shard.path for shard in inventory.parts if shard.state == "read"}
    if inventory.index is not None and inventory.index.weight_map:
        index = inventory.index.weight_map
        names = tuple(name for name in missing if name in index and index[name] not in read)
    else:
        names = missing if _is_short(inventory, len(read)) else ()
    return (Cause(names),) if names else ()


def _is_short(inventory: Inventory, read: int) -> bool:
    """Whether shards are unread, or fewer than their names count: without an index each may have held anything."""
    counted = [int(found[1]) for shard in inventory.parts if (found := _OF.search(shard.path))]
    return read < max(len(inventory.parts), 1, *counted)
