"""Each FP8 weight carries one scale per weight block, edge blocks included."""

from collections.abc import Iterator
from math import ceil

from auditor.comparison.records import Pairing
from auditor.families.scaling import scale_name
from auditor.format.entries import elements
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
    for grid in pairing.grids:
        weight, scale = grid.weight_shape, grid.scale_shape
        if len(weight) != 2:
            continue
        # The last block may be partial (576 rows are 5 blocks), so round up, never down.
        expected = (ceil(weight[0] / rows), ceil(weight[1] / columns))
        if scale == expected:
            continue
        how = _difference(weight, scale, expected, (rows, columns))
        for name in grid.weights:
            yield RULE.failure(
                f"scale grid is {scale}, weight {weight} needs {expected}{how}",
                tensor=scale_name(name),
                expected=list(expected),
                actual=list(scale),
                fold=how or None,
            )


def _difference(
    weight: tuple[int, ...], scale: tuple[int, ...], expected: tuple[int, int], block: tuple[int, int]
) -> str:
    """What a wrong grid looks like, where it looks like something."""
    if elements(scale) == 1:
        return " (one scale for the whole weight)"
    if scale == expected[::-1]:
        return " (transposed)"
    if scale == (weight[0] // block[0], weight[1] // block[1]):
        return " (edge blocks left out)"
    if scale in ((weight[0],), (weight[0], 1)):
        return " (one scale per row)"
    return ""
