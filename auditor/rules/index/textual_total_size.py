"""metadata.total_size is a number, as every writer of an index has it."""

from collections.abc import Iterator

from auditor.format.entries import Index
from auditor.rules.recorded import of_index
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="IDX120",
    slug="textual-total-size",
    title="total_size is text",
    severity=Severity.WARNING,
    scope=Scope.FILE,
    examines="index entries",
)


def check(index_file: Index) -> Iterator[Failure]:
    """A failure where the walk found text in the place of the number."""
    return of_index(RULE, index_file, field="metadata.total_size")
