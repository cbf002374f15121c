"""The experts of one layer are alike in format, dtype and shape: loaders put them into one tensor."""

from collections.abc import Iterator

from auditor.comparison.structure.symmetry import Symmetry
from auditor.text import named
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="SHP201",
    slug="odd-expert",
    title="An expert is stored otherwise than the others of its layer",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="expert sets",
)


def check(symmetry: Symmetry) -> Iterator[Failure]:
    """One failure per pattern, layer and kind that few of its experts have. Shapes are those that codes stand for."""
    for odd in symmetry.odd_experts:
        (dtype, shape), (usual, needed) = odd.actual, odd.usual
        what = f"{dtype} {list(shape)}, most experts of its layer are {usual} {list(needed)}"
        yield RULE.failure(
            f"{named(odd.pattern.removeprefix(chr(10)))} is {what}",
            tensor=odd.names[0],
            expected={"dtype": usual, "shape": list(needed)},
            actual={"dtype": dtype, "shape": list(shape)},
            tensors=odd.names,
            takes=odd.names,
        )
