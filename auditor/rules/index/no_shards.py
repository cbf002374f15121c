"""There is at least one safetensors file beside config.json."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor_schemas.rule import AnyMissing, Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="IDX113",
    slug="no-shards",
    title="No shard is there",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """A failure where neither the folder nor the index has a shard, and both were read."""
    if (
        not inventory.unread
        and not inventory.parts
        and not (inventory.index is not None and inventory.index.weight_map)
    ):
        # A download's marks are called like the files that are not there yet.
        marked = [File(path.rpartition(".")[0]) for path in inventory.entries]
        yield RULE.failure("no *.safetensors file is there", takes=(AnyMissing(), *marked), blames=(AnyMissing(),))
