"""Scales and what else goes with codes stand beside codes; beside nothing, or a plain weight, codes are lost."""

from collections.abc import Iterator

from auditor.comparison.structure.pairing import Pairs
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT202",
    slug="orphan-companion",
    title="Scales, or what else goes with codes, have no codes",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="companions",
)


def check(pairs: Pairs) -> Iterator[Failure]:
    """One failure per pattern of companions without codes; they fold."""
    for each in pairs.orphans:
        there = "no weight is" if each.beside is None else f"the weight is {each.beside}"
        yield RULE.failure(
            f"{each.part.removeprefix('*_') or 'a scale'} {list(each.shape)} goes with codes, {there} beside it",
            tensor=each.names[0],
            expected="codes",
            actual=each.beside,
            tensors=each.names,
            takes=(*each.names, *each.weights),
            blames=() if each.beside is not None else each.weights,
            fold=(each.part, each.beside),
        )
