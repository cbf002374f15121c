"""Every tensor has the dtype that config.json and the published format give it."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.families.expectations import Expectations
from auditor.format.dtypes import FLOATS, FP8, QUANTISABLE
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="SHP102",
    slug="wrong-dtype",
    title="A tensor has another dtype than the format gives it",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(inventory: Inventory, match: Match, expectations: Expectations) -> Iterator[Failure]:
    """One failure per tensor of another dtype; norms, router biases, scales, FP8 where none is have their own rules."""
    for name, row in match.mistyped.items():
        actual = inventory.tensors[name].dtype
        if row.role in ("norm", "router_bias", "scale") and actual in FLOATS:
            continue
        if (row.quantised and actual in QUANTISABLE) or row.role == "scale" or (actual == FP8 and not row.quantised):
            continue
        yield RULE.failure(
            f"dtype is {actual}, needs {row.dtype}",
            tensor=name,
            expected=row.dtype,
            actual=actual,
            takes=expectations.beside(name),
        )
