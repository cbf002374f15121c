"""A shard ends with its last tensor."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor.rules.recorded import of_shards
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="HDR107",
    slug="trailing-bytes",
    title="Shard has bytes after its last tensor",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per fault of this kind that the walk recorded."""
    return of_shards(RULE, inventory)
