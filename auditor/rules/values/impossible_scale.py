"""Block scales make weights that a model can have: they are no reciprocals, no text, and not 1 throughout."""

from collections.abc import Iterator

from auditor.comparison.outliers import Outlier, failures
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL120",
    slug="impossible-scale",
    title="Block scales make weights that no model has",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="scales read",
)


def check(outliers: tuple[Outlier, ...]) -> Iterator[Failure]:
    """One failure per tensor of such scales; they fold."""
    return failures(RULE, [each for each in outliers if each.impossible], "are such")
