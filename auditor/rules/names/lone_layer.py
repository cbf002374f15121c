"""Layers come in classes; one that is like a class but for a few tensors may be meant so, or may have lost them."""

from collections.abc import Iterator

from auditor.comparison.structure.symmetry import Symmetry
from auditor.text import named
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM204",
    slug="lone-layer",
    title="A layer is like a class of others but for what it lacks",
    severity=Severity.INFO,
    scope=Scope.TENSOR,
    examines="layer stacks",
)


def check(symmetry: Symmetry) -> Iterator[Failure]:
    """One failure per layer unlike any other that lacks a few tensors of a class of at least three."""
    for each in symmetry.lone_layers:
        yield RULE.failure(
            f"layer {each.layer:,} of {named(each.stack)} is like {each.others:,} others but for {named(each.names[0])}"
            f"{f' and {len(each.names) - 1:,} more' if len(each.names) > 1 else ''}, which it lacks",
            tensor=each.names[0],
            tensors=each.names,
        )
