"""Weights, norms and vocabulary matrices hold more than one value."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, failures, own_round_trip, share
from auditor.content.probes import Probes
from auditor.content.values import TensorValues
from auditor.format.dtypes import FP8
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL111",
    slug="constant-tensor",
    title="A tensor holds one value throughout",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="tensors read",
)


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per tensor of which all values read are alike. Zeros and scales are other rules' subjects."""
    found = [
        Bad(values, values.read, values.read)
        for values in probes.tensors.values()
        if values.constant and values.read > 1 and not values.zeros and not values.goes_with_codes and _finite(values)
    ]
    return failures(
        RULE,
        found,
        _message,
        expected="more than one value",
        actual=lambda bad: bad.values.minimum,
        takes=own_round_trip,
        whole=True,
    )


def _finite(values: TensorValues) -> bool:
    return not (values.nan or values.infinite)


def _message(bad: Bad) -> str:
    what = "code of value" if bad.values.dtype == FP8 else "value"
    least = bad.values.minimum
    return (
        f"{share(bad.values)} are the one {what} {least:.6g}" if least is not None else f"{share(bad.values)} are alike"
    )
