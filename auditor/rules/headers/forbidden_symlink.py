"""With policy symlinks = 'inside' no file of the checkpoint is a symlink that leads out of it."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor_schemas.policy import Policy
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="HDR113",
    slug="forbidden-symlink",
    title="A symlink leaves the checkpoint, which the policy forbids",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="files",
)


def check(inventory: Inventory, policy: Policy) -> Iterator[Failure]:
    """One failure per symlink that was not followed because the policy forbids it."""
    if policy.symlinks != "inside":
        return
    shards = {shard.path: shard for shard in inventory.shards}
    for path, entry in inventory.entries.items():
        if entry.link == "outside":
            shard = shards.get(path)
            takes = inventory.lost_with(shard) if shard is not None else (File(path),)
            yield RULE.failure(
                "is a symlink that leads out of the checkpoint and was not read",
                file=path,
                takes=takes,
                fold=RULE.slug,
            )
