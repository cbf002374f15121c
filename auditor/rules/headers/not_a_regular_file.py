"""Each shard is a regular file; anything else is never opened."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor_schemas.rule import AnyMissing, Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="HDR114",
    slug="not-a-regular-file",
    title="A directory, FIFO, socket or device stands in a shard's place",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="files",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per shard path (named by the index, or *.safetensors) that is not a regular file."""
    named = inventory.index.files if inventory.index is not None else {}
    for path, entry in inventory.entries.items():
        if entry.kind not in ("directory", "fifo", "socket", "device"):
            continue
        if path in named or (path.endswith(".safetensors") and inventory.claims(path)):
            names = inventory.index.names_in(path) if inventory.index is not None else (AnyMissing(),)
            yield RULE.failure(
                f"is a {entry.kind}, needs a regular file",
                file=path,
                expected="a regular file",
                actual=entry.kind,
                takes=(*names, File(path)),
            )
