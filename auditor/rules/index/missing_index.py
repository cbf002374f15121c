"""A checkpoint of several shards has an index, because loaders find tensors through it."""

from collections.abc import Iterator, Mapping

from auditor.inventory.facts import Inventory
from auditor.sources.entry import Entry
from auditor.text import listed, named
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="IDX101",
    slug="missing-index",
    title="Several shards and no index",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)


_SUFFIX = ".safetensors.index.json"


def check(inventory: Inventory, listing: Mapping[str, Entry]) -> Iterator[Failure]:
    """A failure where there are several shards and no model.safetensors.index.json."""
    count = len(inventory.parts)
    if inventory.index is None and count > 1:
        others = sorted(path for path in listing if path.endswith(_SUFFIX) and "/" not in path)
        beside = f"; {listed(map(named, others))} is, which loaders of this layout do not read" if others else ""
        yield RULE.failure(
            f"model.safetensors.index.json is not there, {count} shards are{beside}",
            file="model.safetensors.index.json",
            blames=(File("model.safetensors.index.json"),),
        )
