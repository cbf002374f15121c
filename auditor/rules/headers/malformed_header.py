"""A header is one JSON object in UTF-8 that starts with '{'."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor.rules.recorded import of_shards
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="HDR103",
    slug="malformed-header",
    title="Header is not a JSON object",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per shard with faults of this kind, and all the tensors concerned."""
    return of_shards(RULE, inventory, takes=inventory.lost_with)
