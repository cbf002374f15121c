"""Block scales have the magnitude of their kind: not another tensor's, and no single one far above the rest."""

from collections.abc import Iterator

from auditor.outliers import Outlier
from auditor.values import round_trip_of, weight_of
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
    found = [each for each in outliers if not each.impossible]
    for position, each in enumerate(found):
        scales = each.values.scales
        assert scales is not None
        many = f"; {len(found):,} tensors of scales outlie" if position == 0 and len(found) > 1 else ""
        yield RULE.failure(
            each.message + many,
            file=each.values.file,
            tensor=each.values.name,
            span=each.at,
            expected=None if each.middle is None else {"median": each.middle},
            actual={
                "weight": weight_of(each.values.name),
                "minimum": scales.minimum,
                "median": scales.median,
                "maximum": scales.maximum,
            },
            takes=(round_trip_of(weight_of(each.values.name)),),
            fold=RULE.slug,
        )
