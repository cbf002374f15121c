"""The index is one JSON object whose weight_map maps each tensor name, once, to a file."""

from collections.abc import Iterator

from auditor.format.entries import Index
from auditor.format.files import INDEX
from auditor.rules.recorded import of_index
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="IDX102",
    slug="malformed-index",
    title="Index is not a well-formed weight_map",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="index entries",
)


def check(index_file: Index) -> Iterator[Failure]:
    """One failure per kind of fault that the walk recorded in the index."""
    return of_index(RULE, index_file, blames=(File(INDEX),))
