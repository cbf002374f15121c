"""A layer between the first and the last of its stack has what all others of it have."""

from collections.abc import Iterator

from auditor.comparison.structure.symmetry import Symmetry
from auditor.text import named
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM203",
    slug="lacking-layer",
    title="A layer lacks what every other layer has",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="layer stacks",
)


def check(symmetry: Symmetry) -> Iterator[Failure]:
    """One failure per layer that alone lacks something, and has nothing of its own in the place of it."""
    for each in symmetry.lacking_layers:
        yield RULE.failure(
            f"layer {each.layer:,} of {named(each.stack)} lacks {named(each.names[0])}"
            f"{f' and {len(each.names) - 1:,} more' if len(each.names) > 1 else ''}; "
            f"each of the {each.others:,} other layers has its like",
            tensor=each.names[0],
            tensors=each.names,
            takes=each.names,
        )
