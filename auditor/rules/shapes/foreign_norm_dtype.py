"""Norms have the float dtype of their family: as other weights in V3, F32 in V3.2."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.format.dtypes import FLOATS
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="SHP103",
    slug="foreign-norm-dtype",
    title="A norm has another float dtype than the family's",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(inventory: Inventory, match: Match) -> Iterator[Failure]:
    """One failure per norm in another float dtype."""
    for name, row in match.mistyped.items():
        actual = inventory.tensors[name].dtype
        if row.role == "norm" and actual in FLOATS:
            yield RULE.failure(
                f"norm dtype is {actual}, the family's is {row.dtype}", tensor=name, expected=row.dtype, actual=actual
            )
