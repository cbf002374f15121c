"""Codes of an FP8 weight are not zeros along a row, outside blocks that are empty."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, failures, own_round_trip
from auditor.content.probes import Probes
from auditor_schemas.policy import Policy
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL137",
    slug="zero-codes",
    title="Runs of codes are zeros",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="weights whose texture was read",
)


def check(probes: Probes, policy: Policy) -> Iterator[Failure]:
    """One failure per FP8 weight with a run of such codes; they fold."""
    limit = policy.thresholds.code_runs
    found = [
        Bad(values, values.texture.zero_run, values.read, values.texture.first_zeros)
        for values in probes.weights
        if values.texture is not None and values.texture.zero_run >= limit
    ]
    return failures(
        RULE,
        found,
        lambda bad: f"{bad.count:,} codes in a row are 0",
        expected="codes other than 0",
        actual=lambda bad: {"run": bad.count, "of": bad.of},
        takes=own_round_trip,
        whole=True,
    )
