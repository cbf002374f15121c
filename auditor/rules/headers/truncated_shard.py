"""A shard holds every byte that its header promises."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor.rules.recorded import of_shards
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="HDR106",
    slug="truncated-shard",
    title="Shard is shorter than its header says",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per fault of this kind that the walk recorded."""
    return of_shards(RULE, inventory, takes=lambda shard: (File(shard.path),))
