"""A scale of one value has codes beside it, or something below it that shares it."""

from collections.abc import Iterator

from auditor.comparison.structure.pairing import Pairs
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT203",
    slug="orphan-scalar",
    title="A scale of one value belongs to nothing that is stored",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="companions",
)


def check(pairs: Pairs) -> Iterator[Failure]:
    """One failure per pattern of scalar companions without codes; they fold."""
    for each in pairs.orphan_scalars:
        there = "nothing is stored" if each.beside is None else f"a {each.beside} weight is stored"
        yield RULE.failure(
            f"{each.part.removeprefix('*_') or 'a scale'} is one value, {there} beside it",
            tensor=each.names[0],
            actual=each.beside,
            tensors=each.names,
            fold=(each.part, each.beside),
        )
