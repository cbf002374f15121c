"""Each FP8 weight carries one scale per weight block, edge blocks included."""

from collections.abc import Iterator

from auditor.comparison.records import Pairing
from auditor.format.entries import elements
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT102",
    slug="mismatched-block-scale",
    title="Scale grid does not cover the weight's blocks",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="scales",
)


def check(pairing: Pairing, quantised_by: str) -> Iterator[Failure]:
    """One failure per scale whose grid is not ceil(rows / block) × ceil(columns / block) of its weight."""
    for grid in pairing.grids:
        weight, scale, expected = grid.weight_shape, grid.scale_shape, grid.needed
        if expected is None or scale == expected:
            continue
        how = _difference(weight, scale, expected, grid.quantiser.block)
        for name in grid.weights:
            yield RULE.failure(
                f"scale grid is {scale}, weight {weight} needs {expected}{how}",
                tensor=grid.companion.of(name),
                expected=list(expected),
                actual=list(scale),
                fold=how or None,
            )


def _difference(
    weight: tuple[int, ...], scale: tuple[int, ...], expected: tuple[int, ...], block: tuple[int, int]
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
