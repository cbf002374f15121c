"""Every FP8 weight has its weight_scale_inv, in whichever shard."""

from collections.abc import Iterator

from auditor.comparison.records import Pairing
from auditor.families.scaling import scale_name
from auditor_schemas.config import QuantizationConfig
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT101",
    slug="missing-block-scale",
    title="An FP8 weight has no block scale",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="FP8 weights",
)


def check(pairing: Pairing, quantization: QuantizationConfig) -> Iterator[Failure]:
    """One failure per FP8 tensor without a scale of the published name."""
    for name in pairing.unscaled:
        yield RULE.failure(
            f"FP8 weight has no weight_scale_inv in any shard, quant_method {quantization.quant_method} needs one",
            tensor=name,
            expected=scale_name(name),
            takes=(scale_name(name),),
            blames=(scale_name(name),),
        )
