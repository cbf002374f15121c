"""Block scales have the precision of amax / 448, not that of BF16 or F16."""

from collections.abc import Iterator
from math import ceil, log

from auditor.comparison.bad_values import Bad, failures, round_trip_of_scale
from auditor.content.probes import Probes, ScaleValues, TensorValues, weight_of
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL116",
    slug="rounded-scale",
    title="Block scales have gone through BF16 or F16",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="scales read",
)

# amax / 448 of a BF16 amax is a number of BF16, or of F16, only where 7 divides the amax's mantissa, one time in 7. So
# many scales in a row are no chance where that is less than 1 in 10^6 for as many tensors as were read. Of fewer,
# tensors count together, where most of a checkpoint's scales are such.
CHANCE, SURE = 7, 1_000_000
ENOUGH = 16
SHARE = 0.5


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per F32 tensor of scales all of which BF16 or F16 has, powers of two set aside; they fold."""
    tensors = [values for values in probes.block_scales() if values.dtype == "F32"]
    enough = ceil(log(max(1, len(tensors)) * SURE, CHANCE))
    found: dict[str, tuple[TensorValues, str]] = {}
    for dtype, count in (("BF16", _in_bf16), ("F16", _in_f16)):
        whole = [values for values in tensors if _other(values) and count(values) == _other(values)]
        together = sum(map(_other, whole)) >= ENOUGH and sum(map(count, tensors)) > SHARE * sum(map(_other, tensors))
        for values in whole:
            if together or _other(values) >= enough:
                found.setdefault(values.name, (values, dtype))
    precision = {name: dtype for name, (_, dtype) in found.items()}
    return failures(
        RULE,
        [Bad(values, _other(values), _scales(values).values) for values, _ in found.values()],
        lambda bad: _message(bad, precision[bad.values.name]),
        expected="scales of 24 significant bits",
        actual=lambda bad: {"weight": weight_of(bad.values), "scales": bad.count, "of": bad.of},
        takes=round_trip_of_scale,
        whole=True,
    )


def _message(bad: Bad, dtype: str) -> str:
    bits = 8 if dtype == "BF16" else 11
    return f"all {bad.of:,} block scales are F32 and have no more than the {bits} significant bits of {dtype}"


def _scales(values: TensorValues) -> ScaleValues:
    assert values.scales is not None
    return values.scales


def _other(values: TensorValues) -> int:
    """Finite positive scales that are no powers of two."""
    return sum(_scales(values).exponents.values()) - _scales(values).powers_of_two


def _in_bf16(values: TensorValues) -> int:
    return _scales(values).bf16 - _scales(values).powers_of_two


def _in_f16(values: TensorValues) -> int:
    return _scales(values).f16 - _scales(values).powers_of_two
