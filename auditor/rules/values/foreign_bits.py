"""Unquantised tensors hold numbers of their dtype, not the bits of another one or bytes in another order."""

from collections.abc import Iterator

from auditor.comparison.magnitudes import Magnitude
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
    found = [each for each in odd_magnitudes if each.oddness == "bits"]
    for position, each in enumerate(found):
        many = f"; {len(found):,} tensors are alike" if position == 0 and len(found) > 1 else ""
        yield RULE.failure(
            each.message + many,
            file=each.values.file,
            tensor=each.values.name,
            expected=each.expected,
            actual=each.actual,
            takes=(each.values.name,),
            fold=RULE.slug,
        )
