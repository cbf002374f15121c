"""A stack of layers has every number from 0 to its last; some published models leave layers out all the same."""

from collections.abc import Iterator

from auditor.comparison.structure.symmetry import Symmetry
from auditor.patterns import patterns
from auditor.text import listed, named
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM202",
    slug="hole-in-layers",
    title="Layers are missing between others",
    severity=Severity.WARNING,
    scope=Scope.CHECKPOINT,
    examines="layer stacks",
)


def check(symmetry: Symmetry) -> Iterator[Failure]:
    """One failure per stack of layers with a hole, also one in front of its first layer."""
    for gap in symmetry.gaps:
        numbers = listed([each.removeprefix("0.") for each in patterns(f"0.{layer}" for layer in gap.layers)], most=9)
        yield RULE.failure(
            f"{named(gap.stack)} has layers from {gap.first:,} to {gap.last:,}, but none of {numbers}",
            tensor=gap.names[0],
            expected=f"layers 0 to {gap.last}",
            actual=f"none of {numbers}",
            tensors=gap.names,
            takes=gap.names,
        )
