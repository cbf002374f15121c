"""Every tensor has its elements; a partitioned model saved without gathering leaves placeholders of shape (0,)."""

from collections.abc import Iterator

from auditor.comparison import Cause, Match
from auditor.facts import Inventory, scale_name
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="SHP105",
    slug="empty-tensor",
    title="A tensor has no element",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(inventory: Inventory, match: Match, empty: tuple[Cause, ...]) -> Iterator[Failure]:
    """One failure per tensor of a shape with a 0, all of one cause."""
    for cause in empty:
        for name in cause.explains:
            row = match.misshapen.get(name)
            if row is None:
                continue
            actual = inventory.tensors[name].shape
            yield RULE.failure(
                f"shape is {actual}, without an element, needs {row.shape}",
                tensor=name,
                expected=list(row.shape),
                actual=list(actual),
                takes=(name, scale_name(name)),
                fold=RULE.slug,
            )
