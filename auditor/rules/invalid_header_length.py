"""The first 8 bytes of a shard give a header length that the file can hold."""

from collections.abc import Iterator

from auditor.facts import Inventory
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
    for shard, fault in inventory.faults(RULE.slug):
        yield RULE.failure(
            fault.message,
            file=shard.path,
            tensor=fault.tensors[0] if fault.tensors else None,
            span=fault.span,
            tensors=fault.tensors,
            takes=inventory.lost_with(shard),
            fold=fault.kind or RULE.slug,
        )
