"""Every tensor that the index names is in the checkpoint."""

from collections.abc import Iterator

from auditor.format.entries import Index
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="IDX106",
    slug="index-entry-without-tensor",
    title="The index names a tensor that no shard holds",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="index entries",
)


def check(inventory: Inventory, index: Index) -> Iterator[Failure]:
    """One failure per entry whose tensor no shard holds, although its file was read whole."""
    if inventory.indexed:
        return
    known = {shard.path for shard in inventory.parts if shard.state == "read"}
    for name in sorted(index.weight_map.keys() - inventory.tensors.keys()):
        path = index.weight_map[name]
        if path in known:
            yield RULE.failure(
                "the index names a tensor that no shard holds",
                file=path,
                tensor=name,
            )
