"""Each shard's __metadata__ says format pt, which some loaders need to choose a framework."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor.text import quoted
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="HDR110",
    slug="missing-format-metadata",
    title="Header lacks the format entry of __metadata__",
    severity=Severity.WARNING,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per shard without a format in its metadata."""
    for shard in inventory.parts:
        if shard.state != "read":
            continue
        if any(fault.kind == "metadata" for fault in shard.faults):
            continue  # which says more: what is there is no object of strings
        form = (shard.metadata or {}).get("format")
        if form is None:
            there = "__metadata__ is not there" if shard.metadata is None else "__metadata__ has no format"
            yield RULE.failure(f"{there}, needs format 'pt'", file=shard.path, expected="pt", actual=None)
        elif form != "pt":
            yield RULE.failure(
                f"__metadata__ format is {quoted(form)}, needs 'pt'",
                file=shard.path,
                expected="pt",
                actual=quoted(form),
            )
