"""No two tensors of a shard share bytes."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor.rules.recorded import of_shards
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="HDR108",
    slug="overlapping-tensors",
    title="Tensors overlap in a shard",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per shard with faults of this kind, and all the tensors concerned."""
    return of_shards(RULE, inventory)
