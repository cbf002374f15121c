"""Each shard's name ends with .safetensors, which is what loaders go by."""

from collections.abc import Iterator

from auditor.format.entries import Index
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="FIL106",
    slug="shard-without-suffix",
    title="A shard's name does not end with .safetensors",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="index files",
)


def check(inventory: Inventory, index: Index) -> Iterator[Failure]:
    """One failure per file that the index names, that is there, and that has another suffix."""
    for path in index.files:
        entry = inventory.entries.get(path)
        if entry is not None and entry.kind == "file" and not path.endswith(".safetensors"):
            yield RULE.failure(
                "has a name that does not end with .safetensors: transformers takes such a file for a pickle, vLLM and "
                "SGLang do not look at it",
                file=path,
                fold=RULE.slug,
            )
