"""No value of an unquantised tensor is one that only a flipped bit makes."""

from collections.abc import Iterator

from auditor.comparison.magnitudes import Magnitude
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
    found = [each for each in odd_magnitudes if each.oddness == "heavy"]
    for position, each in enumerate(found):
        many = f"; {len(found):,} tensors are alike" if position == 0 and len(found) > 1 else ""
        yield RULE.failure(
            each.message + many,
            file=each.values.file,
            tensor=each.values.name,
            expected=each.expected,
            actual=each.actual,
            fold=RULE.slug,
        )
