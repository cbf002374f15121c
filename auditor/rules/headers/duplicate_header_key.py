"""A header names each tensor, and each of its fields, once."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor.rules.recorded import of_shards
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="HDR104",
    slug="duplicate-header-key",
    title="Header holds a key more than once",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per shard with faults of this kind, and all the tensors concerned."""
    return of_shards(RULE, inventory, takes=inventory.lost_with)
