"""Scales have the shape that some block gives: the tensor, a row, a group of a row, or a square with its edges."""

from collections.abc import Iterator

from auditor.comparison.structure.pairing import Pairs
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT204",
    slug="unfit-scale",
    title="Scales fit no block of their weight",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="weights in codes",
)


def check(pairs: Pairs) -> Iterator[Failure]:
    """One failure per pattern whose scales fit no block, or an unusual one that most of the format do not have."""
    for each in pairs.unfit:
        misfit = each.misfit
        solved = "no block" if each.block is None else f"blocks of {each.block}"
        usual = "" if each.usual is None else f"; most weights of the format have {each.usual}"
        yield RULE.failure(
            f"{misfit.scale.removeprefix('*_')} is {list(misfit.shape)}, weight {list(misfit.weight)}: {solved} "
            f"{'gives' if each.block is None else 'give'} that{usual}",
            tensor=each.names[0],
            expected=None if each.usual is None else str(each.usual),
            actual=list(misfit.shape),
            tensors=each.names,
        )
