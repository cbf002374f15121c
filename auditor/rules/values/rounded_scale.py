"""Block scales have the precision of amax / 448, not that of BF16."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, failures, round_trip_of_scale
from auditor.content.probes import Probes, ScaleValues, TensorValues, weight_of
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL116",
    slug="rounded-scale",
    title="Block scales have gone through BF16",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="scales read",
)

# amax / 448 of a BF16 amax is a BF16 number only where 7 divides the amax's mantissa, one time in 7: for 16 scales
# in a row that is 1 in 10^13. Below that, tensors count together, where most of a checkpoint's scales are such.
ENOUGH = 16
SHARE = 0.5


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per F32 tensor of scales that are all BF16 numbers, powers of two set aside; they fold."""
    tensors = [values for values in probes.block_scales() if values.dtype == "F32"]
    whole = [values for values in tensors if _other(values) and _count_rounded(values) == _other(values)]
    together_enough = sum(map(_other, whole)) >= ENOUGH and sum(map(_count_rounded, tensors)) > SHARE * sum(
        map(_other, tensors)
    )
    found = [
        Bad(values, _count_rounded(values), values.scales.values)
        for values in whole
        if values.scales is not None and (together_enough or _other(values) >= ENOUGH)
    ]
    return failures(
        RULE,
        found,
        _message,
        expected="scales of 24 significant bits",
        actual=lambda bad: {"weight": weight_of(bad.values), "scales": bad.count, "of": bad.of},
        takes=round_trip_of_scale,
        whole=True,
    )


def _message(bad: Bad) -> str:
    return f"all {bad.of:,} block scales are F32 and have no more than the 8 significant bits of BF16"


def _scales(values: TensorValues) -> ScaleValues:
    assert values.scales is not None
    return values.scales


def _other(values: TensorValues) -> int:
    """Finite positive scales that are no powers of two."""
    return sum(_scales(values).exponents.values()) - _scales(values).powers_of_two


def _count_rounded(values: TensorValues) -> int:
    return _scales(values).bf16 - _scales(values).powers_of_two
