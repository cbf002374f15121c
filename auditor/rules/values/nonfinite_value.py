"""Every value of an unquantised tensor is a finite number."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, failures, first_place
from auditor.content.probes import Probes
from auditor.format.dtypes import FP8
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL102",
    slug="nonfinite-value",
    title="A tensor holds NaN or infinity",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="unquantised tensors read",
)


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per tensor, neither FP8 nor scales, with NaN or infinity; they fold."""
    found = [
        Bad(values, values.nan + values.infinite, values.read, values.first_nonfinite)
        for values in probes.others
        if values.nan + values.infinite and values.dtype != FP8
    ]
    return failures(
        RULE,
        found,
        _message,
        expected="finite values",
        actual=lambda bad: {"nan": bad.values.nan, "infinite": bad.values.infinite, "of": bad.of},
    )


def _message(bad: Bad) -> str:
    values = bad.values
    kinds = [f"{count:,} {word}" for count, word in ((values.nan, "NaN"), (values.infinite, "infinite")) if count]
    return f"{' and '.join(kinds)} of {bad.of:,} {values.dtype} values read, finite ones needed{first_place(bad)}"
