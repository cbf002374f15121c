"""Block scales have the magnitude of their kind: not another tensor's, and no single one far above the rest."""

from collections.abc import Iterator

from auditor.comparison.outliers import Outlier, failures
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL108",
    slug="outlying-scale",
    title="Block scales are wrong by orders of magnitude",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="scales read",
)


def check(outliers: tuple[Outlier, ...]) -> Iterator[Failure]:
    """One failure per tensor of such scales; they fold."""
    return failures(RULE, [each for each in outliers if not each.impossible], "outlie")
