"""Everything that should be read was read; what was not makes the audit incomplete."""

from collections.abc import Iterator

from auditor.inventory.facts import ConfigFile, Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="HDR111",
    slug="unread-file",
    title="A file could not be read",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory, config_file: ConfigFile) -> Iterator[Failure]:
    """One failure per shard, index or config.json that stayed unread for another reason than its own damage."""
    for shard in inventory.parts:
        if shard.state == "unread":
            yield RULE.failure(shard.reason or "not read", file=shard.path, takes=inventory.lost_with(shard))
    if config_file.state == "unread":
        yield RULE.failure(config_file.reason or "not read", file="config.json")
    index = inventory.index
    if index is not None and index.state == "unread":
        yield RULE.failure(index.reason or "not read", file="model.safetensors.index.json")
