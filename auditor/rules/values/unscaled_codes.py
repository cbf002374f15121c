"""Unquantised matrices hold weights, not the codes of a quantised one whose scales were left out."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, failures, share
from auditor.content.probes import Probes
from auditor.content.values import TensorValues
from auditor.format.dtypes import FLOATS
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL123",
    slug="unscaled-codes",
    title="A matrix holds FP8 codes as numbers, without their scales",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="unquantised tensors read",
)

# Codes reach 448, or 224 and more under scales that are powers of two; no weight of a model comes near.
LEAST = 224.0


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per matrix in a float dtype of which every value read is one that E4M3 has, up to its largest."""
    found = [Bad(values, values.read, values.read) for values in probes.others if values.e4m3 and _holds_codes(values)]
    return failures(
        RULE,
        found,
        _message,
        expected="weights",
        actual=lambda bad: {"minimum": bad.values.minimum, "maximum": bad.values.maximum},
        takes=lambda values: (values.name,),
        whole=True,
    )


def _holds_codes(values: TensorValues) -> bool:
    floats = values.dtype in FLOATS and len(values.shape) > 1
    return floats and not values.constant and _largest(values) >= LEAST


def _largest(values: TensorValues) -> float:
    return max(-(values.minimum or 0.0), values.maximum or 0.0)


def _message(bad: Bad) -> str:
    return (
        f"{share(bad.values)} are values of E4M3, up to {_largest(bad.values):g}: "
        f"FP8 codes stored as {bad.values.dtype}, their scales not applied"
    )
