"""Layers are numbered from 0."""

from collections.abc import Iterator

from auditor.comparison.records import Renumbering
from auditor.text import listed, named
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM111",
    slug="renumbered-layers",
    title="Layers are not numbered from 0",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="expected tensors",
)


def check(renumbered: tuple[Renumbering, ...]) -> Iterator[Failure]:
    """A failure where all layers would be as expected under smaller numbers."""
    for each in renumbered:
        lacking = f"; under the right numbers missing: {listed(each.lacking)}" if each.lacking else ""
        yield RULE.failure(
            f"layers are numbered from {each.by}, such as {named(each.stored)} for {named(each.example)}{lacking}",
            tensor=each.stored,
            expected=each.example,
            actual=each.stored,
            tensors=each.explains,
            takes=each.explains,
        )
