"""Scales of groups are large enough for the format they are stored in."""

from collections.abc import Iterator

from auditor.comparison.bad_values import is_underflow, scale_failures, scales_are, zero_scales
from auditor.content.probes import Probes
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL126",
    slug="underflowed-scale",
    title="Scales of groups have underflowed to zero",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="scales read",
)


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per tensor of group scales in E4M3 of which the less part is 0; they fold."""
    found = [bad for bad in zero_scales(probes) if is_underflow(bad)]
    return scale_failures(RULE, found, scales_are("0, at least 2^-9 needed"), expected="scales of at least 2^-9")
