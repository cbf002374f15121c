"""Weights of one byte or in packed integers have scales; exporters that cast to FP8 and store none mean it so."""

from collections.abc import Iterator

from auditor.comparison.structure.pairing import Pairs
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT206",
    slug="unscaled-codes-of-a-kind",
    title="Codes without scales, as all of their kind",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="weights in codes",
)


def check(pairs: Pairs) -> Iterator[Failure]:
    """One failure per pattern of codes without scales where no weight of their kind has any; they fold."""
    for each in pairs.unscaled:
        yield RULE.failure(
            f"{each.dtype} weights have no {each.companion.removeprefix('a ')}, and none of their kind has one",
            tensor=each.names[0],
            tensors=each.names,
            fold=(each.dtype, each.companion),
        )
