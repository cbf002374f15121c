"""Vocabulary matrices, routers, norms, eh_proj and modules_to_not_convert are not FP8; no scale is read for them."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.families.expectations import Expectations
from auditor.format.entries import is_fp8
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT110",
    slug="quantised-exempt-weight",
    title="A weight that stays unquantised is FP8",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="FP8 weights",
)


def check(inventory: Inventory, quantised_by: str, match: Match, expectations: Expectations) -> Iterator[Failure]:
    """One failure per FP8 tensor that the format leaves unquantised."""
    for name, row in match.mistyped.items():
        if not row.quantised and row.role != "scale" and is_fp8(inventory.tensors[name]):
            yield RULE.failure(
                f"dtype is F8_E4M3, the format leaves it {row.dtype}",
                tensor=name,
                expected=row.dtype,
                actual="F8_E4M3",
                takes=(name, *expectations.beside(name)),
            )
