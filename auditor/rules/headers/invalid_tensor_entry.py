"""Each header entry has a known dtype, a shape of natural numbers and offsets of the size they need."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor.rules.recorded import of_shards
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="HDR105",
    slug="invalid-tensor-entry",
    title="Header entry does not describe a tensor",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per shard and kind of fault that the walk recorded, with all the tensors concerned."""
    return of_shards(RULE, inventory, takes=inventory.lost_with)
