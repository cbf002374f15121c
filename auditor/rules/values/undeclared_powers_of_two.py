"""Scales that are all powers of two are declared as such."""

from collections.abc import Iterator

from auditor.comparison.value_groups import ENOUGH
from auditor.content.probes import Probes
from auditor.format.dtypes import FLOATS
from auditor.text import plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL121",
    slug="undeclared-powers-of-two",
    title="All block scales are powers of two and scale_fmt does not say so",
    severity=Severity.INFO,
    scope=Scope.CHECKPOINT,
    examines="scales read",
)


def check(free_probes: Probes) -> Iterator[Failure]:
    """One failure where every usable scale is a power of two and not all are 1."""
    scales = [
        values.scales for values in free_probes.block_scales if values.scales is not None and values.dtype in FLOATS
    ]
    if any(each.uneven for each in scales):
        return
    usable = sum(each.usable for each in scales)
    powers = sum(each.powers_of_two for each in scales)
    ones = sum(each.powers_of_two for each in scales if each.minimum == each.maximum == 1)
    if powers - ones < ENOUGH:
        return
    yield RULE.failure(
        f"all {plural(usable, 'block scale')} read are powers of two, and quantization_config has no scale_fmt ue8m0",
        file="config.json",
        field="quantization_config.scale_fmt",
        expected="ue8m0",
        actual={"powers_of_two": powers, "of": usable},
    )
