"""Every file that the index names is there; loaders skip one that is not and leave its weights uninitialised."""

from collections.abc import Iterator

from auditor.format.entries import Index
from auditor.inventory.facts import Inventory
from auditor.text import plural
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="IDX103",
    slug="missing-shard",
    title="The index names a file that is not there",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="index files",
)


def check(inventory: Inventory, index: Index) -> Iterator[Failure]:
    """One failure per file of the weight_map that does not exist, with the tensors it takes along."""
    for path, count in index.files.items():
        entry = inventory.entries.get(path)
        if entry is None or entry.kind != "absent":
            continue
        names = index.names_in(path)
        yield RULE.failure(
            f"is not there, the index places {plural(count, 'tensor')} in it",
            file=path,
            expected="a safetensors file",
            actual="no file",
            tensors=names,
            takes=(*names, File(path)),
            blames=(File(path),),
            fold=RULE.slug,
        )
