"""The first 8 bytes of a shard give a header length that the file can hold."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor.rules.recorded import of_shards
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="HDR102",
    slug="invalid-header-length",
    title="Header length cannot be right",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per fault of this kind that the walk recorded."""
    return of_shards(RULE, inventory, takes=inventory.lost_with)
