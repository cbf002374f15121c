"""Each shard is a safetensors file, not a pointer, a page or a blank download."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor.rules.recorded import of_shards
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="HDR101",
    slug="not-a-shard",
    title="Something else stands in a shard's place",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per fault of this kind that the walk recorded."""
    return of_shards(RULE, inventory, takes=inventory.lost_with)
