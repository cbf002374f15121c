"""The values of norms and unquantised weights have the magnitude of their kind."""

from collections.abc import Iterator

from auditor.comparison.magnitudes import Magnitude, failures
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL133",
    slug="outlying-tensor",
    title="A tensor's values are far from those of its kind",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="unquantised tensors read",
)


def check(odd_magnitudes: tuple[Magnitude, ...]) -> Iterator[Failure]:
    """One failure per such tensor; they fold."""
    return failures(RULE, odd_magnitudes, "kind")
