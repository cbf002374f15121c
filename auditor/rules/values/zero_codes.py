"""Codes of an FP8 weight are not zeros along a row, outside blocks that are empty."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, failures, own_round_trip
from auditor.content.probes import Probes
from auditor.text import plural
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
    """One failure per FP8 weight with such codes; they fold."""
    found = [
        Bad(values, values.texture.zero_runs, values.read // 64, values.texture.first_zeros)
        for values in probes.weights()
        if values.texture is not None and values.texture.zero_runs > policy.thresholds.code_runs
    ]
    return failures(
        RULE,
        found,
        lambda bad: f"{plural(bad.count, 'run')} of 64 codes along a row {'is' if bad.count == 1 else 'are'} 0",
        expected="codes other than 0",
        actual=lambda bad: {"zero_runs": bad.count, "of": bad.of},
        takes=own_round_trip,
    )
