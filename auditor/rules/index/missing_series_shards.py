"""Where nothing but the shards' names says how many there are, they are all there."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor.text import plural
from auditor_schemas.rule import AnyMissing, Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="IDX114",
    slug="missing-series-shards",
    title="Shards are missing that the names of the others count",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)
_INDEX = "model.safetensors.index.json"


def check(inventory: Inventory) -> Iterator[Failure]:
    """A failure where there is no index, and the one series of shards has fewer members than its names say."""
    if inventory.unnumbered is not None:
        first, missing = inventory.unnumbered
        yield RULE.failure(
            f"{missing:,} of the {plural(first.total, 'shard')} that the names count are missing, and so is the index",
            file=inventory.parts[0].path,
            expected=first.total,
            actual=first.total - missing,
            # A download's marks are called like the files that are not there yet.
            takes=(AnyMissing(), File(_INDEX), *(File(path.rpartition(".")[0]) for path in inventory.entries)),
        )
