"""Rows of matrices are not zeros, but for the padding of a vocabulary."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, failures
from auditor.content.probes import Probes
from auditor_schemas.policy import Policy
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL134",
    slug="zero-rows",
    title="Many rows of a matrix are zeros",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="unquantised matrices read",
)


def check(probes: Probes, policy: Policy) -> Iterator[Failure]:
    """One failure per unquantised matrix, read whole, with more rows of zeros than padding accounts for; they fold."""
    found = [
        Bad(values, values.matrix.zeros, values.matrix.rows)
        for values in probes.others
        if values.matrix is not None
        and values.whole
        and values.zeros < values.read
        and values.matrix.zeros > policy.thresholds.zero_rows * values.matrix.rows
    ]
    return failures(
        RULE,
        found,
        lambda bad: f"{bad.count:,} of {bad.of:,} rows are 0",
        expected=f"at most {100 * policy.thresholds.zero_rows:.3g} % rows of zeros",
        actual=lambda bad: {"zero_rows": bad.count, "of": bad.of},
    )
