"""Block scales have the precision of amax / 448, not that of BF16 or F16."""

from collections.abc import Iterator
from math import ceil, log
from operator import attrgetter

from auditor.comparison.bad_values import Bad, failures, round_trip_of_scale
from auditor.content.probes import Probes
from auditor.content.values import weight_of
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
    tensors = [
        (values, scales)
        for values in probes.block_scales
        if values.dtype == "F32" and (scales := values.scales) is not None
    ]
    enough = ceil(log(max(1, len(tensors)) * SURE, CHANCE))
    found: dict[str, tuple[Bad, str]] = {}
    for dtype, count in (("BF16", attrgetter("bf16")), ("F16", attrgetter("f16"))):
        there = [count(scales) - scales.powers_of_two for _, scales in tensors]
        each = zip(tensors, there, strict=True)
        whole = [(values, scales, other) for (values, scales), other in each if other and other == scales.uneven]
        together = sum(other for _, _, other in whole) >= ENOUGH
        together = together and sum(there) > SHARE * sum(scales.uneven for _, scales in tensors)
        for values, scales, other in whole:
            if together or other >= enough:
                found.setdefault(values.name, (Bad(values, other, scales.values), dtype))
    precision = {name: dtype for name, (_, dtype) in found.items()}
    return failures(
        RULE,
        [bad for bad, _ in found.values()],
        lambda bad: _message(bad, precision[bad.values.name]),
        expected="scales of 24 significant bits",
        actual=lambda bad: {"weight": weight_of(bad.values), "scales": bad.count, "of": bad.of},
        takes=round_trip_of_scale,
        whole=True,
    )


def _message(bad: Bad, dtype: str) -> str:
    bits = 8 if dtype == "BF16" else 11
    return f"all {bad.of:,} block scales are F32 and have no more than the {bits} significant bits of {dtype}"
