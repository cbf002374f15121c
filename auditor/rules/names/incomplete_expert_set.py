"""Of the experts of one layer each has what most of them have, and none is left out between the first and the last."""

from collections.abc import Iterator

from auditor.comparison.structure.symmetry import Symmetry
from auditor.patterns import patterns
from auditor.text import listed
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM201",
    slug="incomplete-expert-set",
    title="Experts lack what the others of their layer have",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="expert sets",
)


def check(symmetry: Symmetry) -> Iterator[Failure]:
    """One failure per layer and module that some of its experts lack."""
    for hole in symmetry.holes:
        numbers = listed([each.removeprefix("0.") for each in patterns(f"0.{expert}" for expert in hole.experts)])
        what = hole.module or "a tensor"
        yield RULE.failure(
            f"{hole.container}: of {what} there are {hole.of:,}, none of expert {numbers}",
            tensor=hole.names[0],
            expected=hole.of + len(hole.experts),
            actual=hole.of,
            tensors=hole.names,
            takes=hole.names,
            fold=hole.container,
        )
