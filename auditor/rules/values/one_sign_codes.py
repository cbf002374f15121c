"""Codes of an FP8 weight have either sign along a row, as weights do and text does not."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, failures, own_round_trip
from auditor.content.probes import Probes
from auditor_schemas.policy import Policy
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL136",
    slug="one-sign-codes",
    title="Runs of codes have one sign",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="weights whose texture was read",
)


def check(probes: Probes, policy: Policy) -> Iterator[Failure]:
    """One failure per FP8 weight with a run of such codes; they fold."""
    limit = policy.thresholds.code_runs
    found = [
        Bad(values, values.texture.sign_run, values.read, values.texture.first_sign)
        for values in probes.weights
        if values.texture is not None
        and values.texture.sign_run >= limit
        and not values.constant  # which has a rule of its own
    ]
    return failures(
        RULE,
        found,
        lambda bad: f"{bad.count:,} codes in a row are of one sign",
        expected="codes of both signs",
        actual=lambda bad: {"run": bad.count, "of": bad.of},
        takes=own_round_trip,
        whole=True,
    )
