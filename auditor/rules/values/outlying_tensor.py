"""The values of norms and unquantised weights have the magnitude of their kind."""

from collections.abc import Iterator

from auditor.comparison.magnitudes import Magnitude
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
    found = [each for each in odd_magnitudes if each.oddness == "kind"]
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
