"""Tensors whose names differ in their numbers alone have the dtype and shape of most; classes of layers may differ."""

from collections.abc import Iterator

from auditor.comparison.structure.symmetry import Symmetry
from auditor.text import named
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="SHP202",
    slug="odd-kind",
    title="A tensor has another dtype or shape than its like in other layers",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(symmetry: Symmetry) -> Iterator[Failure]:
    """One failure per pattern and kind that few of its tensors have. Shapes are those that codes stand for."""
    for odd in symmetry.odd_kinds:
        (dtype, shape), (usual, needed) = odd.actual, odd.usual
        what = f"{dtype} {list(shape)}, most of its pattern are {usual} {list(needed)}"
        yield RULE.failure(
            f"{named(odd.pattern.removeprefix(chr(10)))} is {what}",
            tensor=odd.names[0],
            expected={"dtype": usual, "shape": list(needed)},
            actual={"dtype": dtype, "shape": list(shape)},
            tensors=odd.names,
            takes=odd.names,
        )
