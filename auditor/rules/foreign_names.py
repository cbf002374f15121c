"""Tensors are named as the published layout names them; a wrapper's prefix or another format's names load nothing."""

from collections.abc import Iterator

from auditor.comparison import Match
from auditor.expectations import Expectations
from auditor.facts import Inventory
from auditor.text import plural, quoted
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM104",
    slug="foreign-names",
    title="No tensor has a name of this layout",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="expected tensors",
)


def check(inventory: Inventory, expectations: Expectations, match: Match) -> Iterator[Failure]:
    """A failure where there are tensors and not one of the expected names is among them."""
    expected = len(match.missing) + len(match.absent)
    if expected == expectations.size and inventory.tensors:
        example = min(inventory.tensors)
        yield RULE.failure(
            f"none of {plural(expected, 'expected name')} is there, {plural(len(inventory.tensors), 'tensor')} "
            f"of other names are, such as {quoted(example)}",
            tensor=example,
            tensors=tuple(inventory.tensors),
            takes=(*inventory.tensors, *match.missing),
        )
