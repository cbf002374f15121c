"""Each tensor is in one shard; of several copies the one loaded last wins."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor.text import listed, named
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="IDX109",
    slug="duplicate-tensor",
    title="A tensor is in several shards",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per tensor that more than one shard holds."""
    if inventory.indexed or inventory.stored == len(inventory.tensors):
        return
    holders: dict[str, list[str]] = {}
    for shard in inventory.parts:
        for name in shard.tensors:
            holders.setdefault(name, []).append(shard.path)
    for name, paths in holders.items():
        if len(paths) > 1:
            yield RULE.failure(
                f"is in {len(paths)} shards: {listed(map(named, paths))}",
                file=paths[0],
                tensor=name,
                expected=1,
                actual=len(paths),
            )
