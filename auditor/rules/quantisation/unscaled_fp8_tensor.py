"""A checkpoint without quantization_config holds no FP8 codes; a conversion that misses a scale copies them raw."""

from collections.abc import Iterator

from auditor.comparison.records import Pairing
from auditor.families.expectations import Expectations
from auditor_schemas.config import ModelConfig
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT108",
    slug="unscaled-fp8-tensor",
    title="Raw FP8 in a checkpoint that declares no quantisation",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="FP8 weights",
)


def check(pairing: Pairing, config: ModelConfig, expectations: Expectations) -> Iterator[Failure]:
    """One failure per FP8 tensor without a scale where the config declares no quantisation."""
    if config.quantization_config is not None or any(row.quantised for row in expectations.layers_of):
        return
    for name in pairing.unscaled:
        yield RULE.failure(
            "dtype is F8_E4M3 without a scale, the config declares no quantisation",
            tensor=name,
            expected=config.float_dtype,
            actual="F8_E4M3",
        )
