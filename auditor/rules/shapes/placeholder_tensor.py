"""A weight has elements; what is saved of one that was not gathered is a placeholder without any."""

from collections.abc import Iterator

from auditor.comparison.structure.modules import Module
from auditor.format.entries import elements
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="SHP203",
    slug="placeholder-tensor",
    title="A weight has no element",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(modules: tuple[Module, ...]) -> Iterator[Failure]:
    """One failure per pattern of weights without an element; they fold."""
    for module in modules:
        part, (dtype, shape) = module.main
        if part == "weight" and not elements(shape):
            names = module.names(part)
            yield RULE.failure(
                f"{dtype} weight is {list(shape)}, which is no element",
                tensor=names[0],
                actual=list(shape),
                tensors=names,
                fold=(dtype, shape),
            )
