"""No block scale is a subnormal F32 number."""

from collections.abc import Iterator

from auditor.comparison.bad_values import (
    Bad,
    bad_scales,
    first_place,
    round_trip_of,
    scale_actual,
    span,
    together,
    weight_of,
)
from auditor.content.probes import Probes
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL106",
    slug="subnormal-scale",
    title="A block scale is subnormal",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="scales read",
)


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per tensor of block scales with such values; they fold."""
    for bad, message in together(bad_scales(probes, "subnormal"), _message):
        yield RULE.failure(
            message,
            file=bad.values.file,
            tensor=bad.values.name,
            span=span(bad.first),
            expected="scales of at least 1.18e-38",
            actual=scale_actual(bad),
            takes=(round_trip_of(weight_of(bad.values.name)),),
            fold=RULE.slug,
        )


def _message(bad: Bad) -> str:
    verb = "is" if bad.count == 1 else "are"
    return f"{bad.count:,} of {bad.of:,} block scales {verb} subnormal, at least 1.18e-38 needed{first_place(bad)}"
