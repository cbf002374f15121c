"""Every tensor has its elements; a partitioned model saved without gathering leaves placeholders of shape (0,)."""

from collections.abc import Iterator
from itertools import chain

from auditor.comparison.records import Cause, Match
from auditor.families.expectations import Expectations
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="SHP105",
    slug="empty-tensor",
    title="A tensor has no element",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="tensors",
)


def check(
    inventory: Inventory, match: Match, expectations: Expectations, empty: tuple[Cause, ...]
) -> Iterator[Failure]:
    """One failure for all tensors of a shape with a 0."""
    for cause in empty:
        names = [name for name in cause.explains if name in match.misshapen]
        actual, needed = inventory.tensors[names[0]].shape, match.misshapen[names[0]].shape
        yield RULE.failure(
            f"shape is {actual}, without an element, needs {needed}",
            tensor=names[0],
            expected=list(needed),
            actual=list(actual),
            tensors=names,
            takes=(*cause.explains, *chain.from_iterable(map(expectations.beside, names))),
        )
