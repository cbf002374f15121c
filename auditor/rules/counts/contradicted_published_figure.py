"""Published parameter figures agree with the exact counts; they never gate."""

from collections.abc import Iterator

from auditor_schemas.figures import Figure
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="CNT102",
    slug="contradicted-published-figure",
    title="A published figure contradicts the arithmetic",
    severity=Severity.INFO,
    scope=Scope.COUNT,
    examines="figures",
)


def check(figures: tuple[Figure, ...]) -> Iterator[Failure]:
    """One failure, for information, per published figure that no convention gives."""
    for figure in figures:
        if figure.verdict == "contradicted":
            exact = figure.counts[0]
            yield RULE.failure(
                f"{figure.name}: published {figure.published}, exact {exact.parameters:,} ({exact.convention})",
                field=figure.name,
                expected=exact.parameters,
                actual=figure.published,
            )
