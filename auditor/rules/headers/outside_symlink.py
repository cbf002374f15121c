"""Symlinks lead within the checkpoint or its hub cache; others are followed and listed."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor_schemas.policy import Policy
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="HDR112",
    slug="outside-symlink",
    title="A file is a symlink that leaves the checkpoint",
    severity=Severity.INFO,
    scope=Scope.FILE,
    examines="files",
)


def check(inventory: Inventory, policy: Policy) -> Iterator[Failure]:
    """One failure, for information, per followed symlink that leads out of the checkpoint and its hub cache."""
    if policy.symlinks == "inside":
        return
    for path, entry in inventory.entries.items():
        if entry.link == "outside" and entry.kind == "file":
            yield RULE.failure("is a symlink that leads out of the checkpoint", file=path, fold=RULE.slug)
