"""The router's e_score_correction_bias is F32: in less precision experts are chosen wrongly."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.format.dtypes import FLOATS
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="SHP104",
    slug="wrong-router-bias-dtype",
    title="The router's correction bias is not F32",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(inventory: Inventory, match: Match) -> Iterator[Failure]:
    """One failure per correction bias in another float dtype."""
    for name, row in match.mistyped.items():
        actual = inventory.tensors[name].dtype
        if row.role == "router_bias" and actual in FLOATS:
            yield RULE.failure(
                f"correction bias dtype is {actual}, needs {row.dtype}", tensor=name, expected=row.dtype, actual=actual
            )
