"""Block scales are F32, also where scale_fmt makes them powers of two."""

from collections.abc import Iterator

from auditor.comparison.records import Pairing
from auditor_schemas.rule import Failure, RoundTrip, Rule, Scope, Severity

RULE = Rule(
    id="QNT104",
    slug="wrong-scale-dtype",
    title="A block scale is not F32",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="scales",
)


def check(pairing: Pairing) -> Iterator[Failure]:
    """One failure per scale of an FP8 weight in another dtype."""
    for grid in pairing.grids:
        dtypes = grid.companion.dtypes
        if grid.scale_dtype in dtypes:
            continue
        for name in grid.weights:
            yield RULE.failure(
                f"scale dtype is {grid.scale_dtype}, needs {' or '.join(dtypes)}",
                tensor=grid.companion.of(name),
                expected=dtypes[0],
                actual=grid.scale_dtype,
                takes=(RoundTrip(name),),
            )
