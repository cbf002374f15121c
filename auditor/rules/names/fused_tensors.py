"""Tensors are stored one by one as the layout has them, not joined into one nor split into several."""

from collections.abc import Iterator
from itertools import chain

from auditor.comparison.records import Fusion
from auditor.families.expectations import Expectations
from auditor.text import listed, named
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM106",
    slug="fused-tensors",
    title="Tensors of the layout are stored fused or split",
    severity=Severity.ERROR,
    scope=Scope.MODULE,
    examines="expected tensors",
)


def check(fusions: tuple[Fusion, ...], expectations: Expectations) -> Iterator[Failure]:
    """One failure for all of them: who fuses one kind of tensor fuses others."""
    if not fusions:
        return
    kinds = {(each.pieces, each.whole): each for each in reversed(fusions)}
    stored = [name for each in fusions for name in each.stored]
    yield RULE.failure(
        listed((_message(each) for each in reversed(kinds.values())), most=5),
        tensor=stored[0],
        expected=list(fusions[0].whole),
        actual=list(fusions[0].pieces),
        tensors=stored,
        takes=(
            *(name for each in fusions for name in each.explains),
            *chain.from_iterable(map(expectations.beside, stored)),
        ),
    )


def _message(fusion: Fusion) -> str:
    pieces, whole = " and ".join(map(named, fusion.pieces)), " and ".join(fusion.whole)
    if len(fusion.pieces) > 1:
        return f"{whole} is stored split in {pieces}"
    return f"{whole} are stored fused in {pieces} {fusion.shape}"
