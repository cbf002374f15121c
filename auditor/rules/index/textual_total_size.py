"""metadata.total_size is a number, as every writer of an index has it."""

from collections.abc import Iterator

from auditor.format.entries import Index
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
    for fault in index_file.faults:
        if fault.slug == RULE.slug:
            yield RULE.failure(
                fault.message,
                file="model.safetensors.index.json",
                field="metadata.total_size",
                expected="a number",
                actual=fault.actual,
            )
