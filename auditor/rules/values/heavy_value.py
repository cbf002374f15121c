"""No value of an unquantised tensor is one that only a flipped bit makes."""

from collections.abc import Iterator

from auditor.comparison.magnitudes import Magnitude, failures
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL131",
    slug="heavy-value",
    title="A tensor holds a value that no model has",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="unquantised tensors read",
)


def check(odd_magnitudes: tuple[Magnitude, ...]) -> Iterator[Failure]:
    """One failure per such tensor; they fold."""
    return failures(RULE, odd_magnitudes, "heavy")
