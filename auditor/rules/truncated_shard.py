"""A shard holds every byte that its header promises."""

from collections.abc import Iterator

from auditor.facts import Inventory
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
    for shard, fault in inventory.faults(RULE.slug):
        yield RULE.failure(
            fault.message,
            file=shard.path,
            tensor=fault.tensors[0] if fault.tensors else None,
            span=fault.span,
            expected=fault.expected,
            actual=fault.actual,
            tensors=fault.tensors,
            takes=(File(shard.path),),
            fold=RULE.slug,
        )
