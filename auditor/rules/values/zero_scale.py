"""No block scale is zero."""

from collections.abc import Iterator

from auditor.comparison.bad_values import is_underflow, scale_failures, scales_are, zero_scales
from auditor.content.probes import Probes
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL104",
    slug="zero-scale",
    title="A block scale is zero",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="scales read",
)


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per tensor of block scales with such values; they fold."""
    found = [bad for bad in zero_scales(probes) if not is_underflow(bad)]
    return scale_failures(RULE, found, scales_are("0, above 0 needed"), expected="scales above 0")
