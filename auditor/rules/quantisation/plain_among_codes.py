"""A weight whose like in other layers is quantised is quantised too, or the declaration leaves it out by name."""

from collections.abc import Iterator

from auditor.comparison.structure.declared import Declared
from auditor.text import named, plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT212",
    slug="plain-among-codes",
    title="Weights are plain, their like are codes, and nothing leaves them out",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="weights in codes",
)


def check(declared: Declared) -> Iterator[Failure]:
    """One failure per pattern with plain weights that no exclusion covers; they fold."""
    declaration = declared.declaration
    for each in declared.plain:
        yield RULE.failure(
            f"{plural(len(each.names), 'weight')} of {named(each.pattern)} {'is' if len(each.names) == 1 else 'are'} "
            f"{each.dtype}, {each.others:,} are in {each.format}; {declaration.exclusion_field} names none of these",
            tensor=each.names[0],
            expected=each.format,
            actual=each.dtype,
            tensors=each.names,
            fold=(each.dtype, each.format),
        )
