"""Each FP8 weight carries one scale per weight block, edge blocks included."""

from collections.abc import Iterator
from math import ceil

from auditor.facts import Pairing, scale_name
from auditor_schemas.config import QuantizationConfig
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT102",
    slug="mismatched-block-scale",
    title="Scale grid does not cover the weight's blocks",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="scales",
)


def check(pairing: Pairing, quantization: QuantizationConfig) -> Iterator[Failure]:
    """One failure per scale whose grid is not ceil(rows / block) × ceil(columns / block) of its weight."""
    rows, columns = quantization.weight_block_size
    sound = set()
    for name, weight, scale in pairing.scaled:
        shapes = (weight.shape, scale.shape)
        if shapes in sound or len(weight.shape) != 2:
            continue
        # The last block may be partial (576 rows are 5 blocks), so round up, never down.
        expected = (ceil(weight.shape[0] / rows), ceil(weight.shape[1] / columns))
        if scale.shape == expected:
            sound.add(shapes)
            continue
        yield RULE.failure(
            f"scale grid is {scale.shape}, weight {weight.shape} needs {expected}",
            tensor=scale_name(name),
            expected=list(expected),
            actual=list(scale.shape),
        )
