"""Every weight that quantization_config covers is FP8; others are listed in modules_to_not_convert."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.families.expectations import Expectations
from auditor.format.dtypes import QUANTISABLE
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT109",
    slug="unquantised-weight",
    title="A weight that should be FP8 is not",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="FP8 weights",
)


def check(inventory: Inventory, quantised_by: str, match: Match, expectations: Expectations) -> Iterator[Failure]:
    """One failure per weight that the config quantises and that holds another dtype."""
    for name, row in match.mistyped.items():
        actual = inventory.tensors[name].dtype
        if row.quantised and actual in QUANTISABLE:
            yield RULE.failure(
                f"weight is {actual}, quantization_config makes it {row.dtype}",
                tensor=name,
                expected=row.dtype,
                actual=actual,
                takes=(name, *expectations.beside(name)),
            )
