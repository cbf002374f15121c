"""Every tensor has the shape that config.json implies."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.families.expectations import Expectations
from auditor.format.entries import elements
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="SHP101",
    slug="wrong-shape",
    title="A tensor has another shape than the config implies",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(inventory: Inventory, match: Match, expectations: Expectations) -> Iterator[Failure]:
    """One failure per tensor of another shape; scales and tensors without an element have rules of their own."""
    for name, row in match.misshapen.items():
        actual = inventory.tensors[name].shape
        if row.role == "scale" or not elements(actual):
            continue
        how = _difference(actual, row.shape)
        yield RULE.failure(
            f"shape is {actual}{how}, needs {row.shape}",
            tensor=name,
            expected=list(row.shape),
            actual=list(actual),
            takes=expectations.beside(name),
            fold=how or None,
        )


def _difference(actual: tuple[int, ...], needed: tuple[int, ...]) -> str:
    """What a wrong shape looks like, where it looks like something that a tool does to all it writes."""
    if actual == needed[::-1]:
        return " (transposed)"
    if elements(actual) != elements(needed):
        return ""
    if tuple(side for side in actual if side != 1) == tuple(side for side in needed if side != 1):
        return " (dimensions of 1 more or fewer)"
    return " (the same number of elements)"
