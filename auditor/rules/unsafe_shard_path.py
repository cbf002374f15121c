"""Every path in the index stays within the checkpoint: relative, with '/', without '..'."""

from collections.abc import Iterator

from auditor.facts import Index, Inventory
from auditor.text import is_relative, plural, quoted
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="IDX104",
    slug="unsafe-shard-path",
    title="The index names a path outside the checkpoint",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="index files",
)


def check(inventory: Inventory, index: Index) -> Iterator[Failure]:
    """One failure per path that the walk refused to open for its spelling."""
    for path, count in index.files.items():
        if path in inventory.entries:
            continue
        if inventory.unread and is_relative(path):
            continue  # not looked at for another reason, which the report names
        names = index.names_in(path)
        yield RULE.failure(
            f"weight_map names {quoted(path)} for {plural(count, 'tensor')}, "
            "needs a relative path within the checkpoint",
            file="model.safetensors.index.json",
            tensor=names[0],
            expected="a relative path within the checkpoint",
            actual=quoted(path),
            tensors=names,
            takes=names,
        )
