"""Where config.json declares FP8 there are FP8 weights; a BF16 export drops quantization_config."""

from collections import Counter
from collections.abc import Iterator

from auditor.comparison.records import Cause, Match, Pairing
from auditor.families.expectations import Expectations
from auditor.families.scaling import is_scale
from auditor.format.dtypes import FP8
from auditor.inventory.facts import Inventory
from auditor.text import listed
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT106",
    slug="absent-quantisation",
    title="config.json declares FP8, no weight is FP8",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="FP8 weights",
)


def check(
    inventory: Inventory,
    pairing: Pairing,
    quantised_by: str,
    expectations: Expectations,
    match: Match,
    packed: tuple[Cause, ...],
) -> Iterator[Failure]:
    """A failure where quantization_config is there and not one weight is FP8, nor of a format that is told apart."""
    if pairing.scaled or pairing.unscaled:
        return
    packed_names = {name for cause in packed for name in cause.explains}
    names = [
        name
        for name, row in expectations.names.items()
        if row.quantised and name in inventory.tensors and name not in packed_names
    ]
    dtypes = Counter(inventory.tensors[name].dtype for name in names)
    if not names:
        return
    there = listed(f"{count:,} {dtype}" for dtype, count in sorted(dtypes.items()))
    scales = [name for name, row in expectations.names.items() if row.role == "scale"]
    yield RULE.failure(
        f"quantization_config declares {quantised_by.removeprefix('quant_method ')}, the weights it covers are {there}",
        file="config.json",
        field="quantization_config",
        expected=FP8,
        actual=sorted(dtypes),
        tensors=names,
        takes=(*names, *scales, *(name for name in match.unexpected if is_scale(name))),
    )
