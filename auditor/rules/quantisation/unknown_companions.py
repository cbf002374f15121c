"""Codes and their companions are together one of the formats in use."""

from collections.abc import Iterator

from auditor.comparison.structure.pairing import Pairs
from auditor.text import listed
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT207",
    slug="unknown-companions",
    title="Codes stand beside companions of no format that is known",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="weights in codes",
)


def check(pairs: Pairs) -> Iterator[Failure]:
    """One failure per pattern; they fold."""
    for each in pairs.unknown:
        yield RULE.failure(
            f"{each.dtype} codes stand beside {listed(each.companions)}, which no known format of theirs has",
            tensor=each.names[0],
            actual=list(each.companions),
            tensors=each.names,
            fold=(each.dtype, each.companions),
        )
