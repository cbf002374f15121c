"""No block scale is a subnormal F32 number."""

from collections.abc import Iterator

from auditor.comparison.bad_values import bad_scales, scale_failures, scales_are
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
    found = bad_scales(probes, "subnormal")
    return scale_failures(
        RULE, found, scales_are("subnormal, at least 1.18e-38 needed"), expected="scales of at least 1.18e-38"
    )
