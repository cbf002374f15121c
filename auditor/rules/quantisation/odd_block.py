"""Weights of one format share their scales in blocks of one size."""

from collections.abc import Iterator

from auditor.comparison.structure.pairing import Pairs
from auditor.text import plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT205",
    slug="odd-block",
    title="Scales are of another block than most of their format",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="weights in codes",
)


def check(pairs: Pairs) -> Iterator[Failure]:
    """One failure per block that is not that of most weights of a format, or that is unusual; they fold."""
    for each in pairs.odd_blocks:
        if each.block == each.usual:
            words = f"scales are of {each.block}, which no known format has"
        else:
            words = (
                f"scales are of {each.block}, those of {plural(each.others, 'weight')} in {each.format} of {each.usual}"
            )
        yield RULE.failure(
            words,
            tensor=each.names[0],
            expected=str(each.usual),
            actual=str(each.block),
            tensors=each.names,
        )
