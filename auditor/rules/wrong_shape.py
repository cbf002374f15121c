"""Every tensor has the shape that config.json implies."""

from collections.abc import Iterator

from auditor.comparison import Match
from auditor.facts import Inventory, scale_name
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="SHP101",
    slug="wrong-shape",
    title="A tensor has another shape than the config implies",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(inventory: Inventory, match: Match) -> Iterator[Failure]:
    """One failure per tensor of another shape; scales have a rule of their own."""
    for name, row in match.misshapen.items():
        if row.role == "scale":
            continue
        actual = inventory.tensors[name].shape
        transposed = " (transposed)" if actual == row.shape[::-1] and len(actual) > 1 else ""
        yield RULE.failure(
            f"shape is {actual}{transposed}, needs {row.shape}",
            tensor=name,
            expected=list(row.shape),
            actual=list(actual),
            takes=(scale_name(name),),
        )
