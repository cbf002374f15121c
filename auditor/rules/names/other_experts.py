"""The experts of a layer are numbered from 0, and there are as many as in the other layers of the stack."""

from collections.abc import Iterator

from auditor.comparison.structure.symmetry import Symmetry
from auditor.text import named, plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM205",
    slug="other-experts",
    title="Layers have other experts than most",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="expert sets",
)


def check(symmetry: Symmetry) -> Iterator[Failure]:
    """One failure per numbering that few layers have, or that does not begin at 0."""
    for each in symmetry.other_experts:
        first, last = each.usual
        yield RULE.failure(
            f"{named(each.container)} are {each.first:,} to {each.last:,} in {plural(len(each.layers), 'layer')}, "
            f"{f'most have {first:,} to {last:,}' if each.usual != (each.first, each.last) else 'none begins at 0'}",
            tensor=each.names[0],
            expected=[first, last] if each.usual != (each.first, each.last) else [0, each.last],
            actual=[each.first, each.last],
            tensors=each.names,
            takes=each.absent,
            blames=each.absent,
        )
