"""Codes of an FP8 weight are spread as those of weights are: random, compressed and other numbers' bytes are not."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, failures, own_round_trip
from auditor.content.probes import Probes
from auditor.text import plural
from auditor_schemas.policy import Policy
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL138",
    slug="foreign-codes",
    title="Pages of codes are spread as random bytes are",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="weights whose texture was read",
)


def check(probes: Probes, policy: Policy) -> Iterator[Failure]:
    """One failure per FP8 weight with a page of 4 KiB that has many small codes beside large ones; they fold."""
    limit = policy.thresholds.small_codes
    found = [
        # Bytes that begin within a page share two, neither of which has to be above the eighth that is counted.
        Bad(values, max(1, values.texture.small_pages), values.texture.pages, values.texture.first_small)
        for values in probes.weights
        if values.texture is not None and values.texture.small > limit
    ]
    return failures(
        RULE,
        found,
        _message,
        expected=f"at most {100 * policy.thresholds.small_codes:.3g} % of small codes",
        actual=lambda bad: {"pages": bad.count, "of": bad.of},
        takes=own_round_trip,
    )


def _message(bad: Bad) -> str:
    texture = bad.values.texture
    assert texture is not None
    verb = "is" if bad.count == 1 else "are"
    pages = f"{plural(bad.count, 'page')} of 4 KiB, of {bad.of:,} read, {verb} like random bytes"
    return f"{pages}: {100 * texture.small:.0f} % of the codes are below 0.125, of trained weights' at most 5 %"
