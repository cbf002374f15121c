"""Unquantised tensors hold numbers of their dtype, not the bits of another one or bytes in another order."""

from collections.abc import Iterator

from auditor.comparison.magnitudes import Magnitude, failures
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL132",
    slug="foreign-bits",
    title="A tensor's values are another format's bits, or in another byte order",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="unquantised tensors read",
)


def check(odd_magnitudes: tuple[Magnitude, ...]) -> Iterator[Failure]:
    """One failure per such tensor; they fold."""
    return failures(RULE, odd_magnitudes, "bits")
