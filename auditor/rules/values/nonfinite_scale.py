"""Every block scale is finite."""

from collections.abc import Iterator

from auditor.comparison.bad_values import bad_scales, scale_failures, scales_are
from auditor.content.probes import Probes
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL103",
    slug="nonfinite-scale",
    title="A block scale is NaN or infinite",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="scales read",
)


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per tensor of block scales with such values; they fold."""
    found = bad_scales(probes, "nan", "infinite")
    return scale_failures(RULE, found, scales_are("NaN or infinite, finite needed"), expected="finite scales")
