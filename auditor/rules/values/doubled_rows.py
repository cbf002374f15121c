"""Rows of a vocabulary differ, but for those of tokens that nobody uses."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, failures
from auditor.content.probes import Probes
from auditor_schemas.policy import Policy
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL135",
    slug="doubled-rows",
    title="Many rows of a vocabulary are there twice",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="vocabulary matrices read",
)


def check(probes: Probes, policy: Policy) -> Iterator[Failure]:
    """One failure per vocabulary matrix with too many rows that hold what another does; they fold."""
    found = [
        Bad(values, values.matrix.doubled, values.matrix.rows)
        for values in probes.others
        if values.matrix is not None
        and not values.constant
        and values.matrix.doubled > policy.thresholds.doubled_rows * values.matrix.rows
    ]
    return failures(
        RULE,
        found,
        lambda bad: f"{bad.count:,} of {bad.of:,} rows read hold what an earlier one holds",
        expected=f"at most {100 * policy.thresholds.doubled_rows:.3g} % rows that are there twice",
        actual=lambda bad: {"doubled_rows": bad.count, "of": bad.of},
    )
