"""Each shard is a safetensors file, not a pointer, a page or a blank download."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
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
    for shard, fault in inventory.faults(RULE.slug):
        yield RULE.failure(
            fault.message,
            file=shard.path,
            tensor=fault.tensors[0] if fault.tensors else None,
            span=fault.span,
            tensors=fault.tensors,
            takes=inventory.lost_with(shard),
            fold=fault.message.split(",")[0],
        )
