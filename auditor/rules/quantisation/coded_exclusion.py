"""Modules that the declaration leaves out may keep the format that they had before, which is no fault by itself."""

from collections.abc import Iterator

from auditor.comparison.structure.declared import Declared
from auditor.text import named, plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT214",
    slug="coded-exclusion",
    title="What the declaration leaves out is quantised all the same",
    severity=Severity.INFO,
    scope=Scope.TENSOR,
    examines="exclusions",
)


def check(declared: Declared) -> Iterator[Failure]:
    """One failure per entry that covers weights with scales."""
    for entry, names in declared.coded_exclusions.items():
        yield RULE.failure(
            f"{named(entry)} leaves out {plural(len(names), 'weight')} stored as codes",
            tensor=names[0],
            field=declared.declaration.exclusion_field,
            actual=entry,
            tensors=names,
        )
