"""No AppleDouble files lie between the shards; they hold what macOS knows of a file, and no weights."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="FIL108",
    slug="apple-double",
    title="macOS left its metadata beside the shards",
    severity=Severity.WARNING,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per such file."""
    for shard in inventory.shards:
        if any(fault.slug == RULE.slug for fault in shard.faults):
            yield RULE.failure(
                f"is an AppleDouble file of {shard.size:,} bytes: what macOS writes beside a file on exFAT and "
                "network disks, no shard",
                file=shard.path,
                fold=RULE.slug,
            )
