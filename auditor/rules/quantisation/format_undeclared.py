"""Every format of weights is among those that the declaration names."""

from collections.abc import Iterator

from auditor.comparison.structure.declared import Declared
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT210",
    slug="format-undeclared",
    title="Weights are in a format that the declaration does not name",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="weights in codes",
)


def check(declared: Declared) -> Iterator[Failure]:
    """One failure per format of which the declaration says nothing; they fold."""
    for module in declared.unexplained:
        part, (dtype, _) = module.main
        names = module.names(part)
        yield RULE.failure(
            f"{len(names):,} of {dtype} are in {module.format}, {declared.declaration.shown} is declared",
            tensor=names[0],
            expected=declared.declaration.shown,
            actual=module.format,
            tensors=names,
            fold=(dtype, module.format),
        )
