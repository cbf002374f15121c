"""No model.safetensors lies beside an index of other files: transformers takes it and never reads the index."""

from collections.abc import Iterator

from auditor.format.entries import Index
from auditor.inventory.facts import Inventory
from auditor.text import plural
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="FIL101",
    slug="preferred-single-file",
    title="model.safetensors is loaded in place of the indexed shards",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="files",
)
_SINGLE = "model.safetensors"


def check(inventory: Inventory, index: Index) -> Iterator[Failure]:
    """A failure where model.safetensors is there and the index names other files."""
    entry = inventory.entries.get(_SINGLE)
    others = len(index.places - {_SINGLE})
    if entry is not None and entry.kind == "file" and others:
        yield RULE.failure(
            f"is there beside an index that names {plural(others, 'other file')}: transformers loads it alone and "
            "does not read the index",
            file=_SINGLE,
            expected="the index alone",
            actual="a single file as well",
            takes=(File(_SINGLE),),
            blames=(File(_SINGLE),),
        )
