"""With `scale_fmt` ue8m0 every block scale is a power of two."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, first_place, scale_failures
from auditor.content.probes import Probes
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL107",
    slug="scale-not-power-of-two",
    title="scale_fmt is ue8m0, a block scale is no power of two",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="scales read",
)


def check(ue8m0_probes: Probes) -> Iterator[Failure]:
    """One failure per tensor of block scales with positive values that are no powers of two; they fold."""
    found = []
    for values in ue8m0_probes.block_scales:
        scales = values.scales
        assert scales is not None
        count = scales.uneven
        if count > 0:
            found.append(Bad(values, count, scales.values, scales.first.get("not_power_of_two")))
    return scale_failures(RULE, found, _message, expected="powers of two")


def _message(bad: Bad) -> str:
    what = "is no power of two" if bad.count == 1 else "are no powers of two"
    return f"{bad.count:,} of {bad.of:,} block scales {what}, scale_fmt ue8m0 needs them{first_place(bad)}"
