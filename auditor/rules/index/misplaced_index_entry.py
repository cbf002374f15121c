"""The index names for each tensor the shard that holds it."""

from collections.abc import Iterator

from auditor.format.entries import Index
from auditor.inventory.facts import Inventory
from auditor.text import named
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="IDX108",
    slug="misplaced-index-entry",
    title="The index names another shard than the one that holds the tensor",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="index entries",
)


def check(inventory: Inventory, index: Index) -> Iterator[Failure]:
    """One failure per tensor that the named shard, read whole, lacks and another shard holds."""
    if inventory.indexed:
        return
    shards = {shard.path: shard for shard in inventory.parts}
    tensors = inventory.tensors
    for name, path in index.weight_map.items():
        shard = shards.get(path)
        if shard is None or shard.state != "read" or name in shard.tensors or name not in tensors:
            continue
        holder = inventory.shard_of(name)
        actual = holder.path if holder is not None else None
        yield RULE.failure(
            f"the index names {named(path)}, the tensor is in {named(actual or '')}",
            file=path,
            tensor=name,
            expected=path,
            actual=actual,
        )
