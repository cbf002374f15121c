"""Every tensor in a shard is in the index; loaders never load one that is not."""

from collections.abc import Iterator

from auditor.format.entries import Index
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="IDX107",
    slug="unindexed-tensor",
    title="A shard holds tensors that the index omits",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(inventory: Inventory, index: Index) -> Iterator[Failure]:
    """One failure per tensor of a shard that the weight_map lacks."""
    if inventory.indexed:
        return
    for shard in inventory.parts:
        for name in sorted(name for name in shard.tensors if name not in index.weight_map):
            yield RULE.failure("the index omits a tensor that a shard holds", file=shard.path, tensor=name)
