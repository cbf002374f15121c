"""Tensors have the dtype that the release has them in; of some a further one is as sound, and worth knowing."""

from collections.abc import Iterator

from auditor.comparison.records import Census, FloatDtype
from auditor.families.expectations import Expectations
from auditor.inventory.facts import Inventory
from auditor.text import plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="SHP107",
    slug="unusual-dtype",
    title="Tensors have another dtype than the release has, as sound as that",
    severity=Severity.INFO,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(
    inventory: Inventory, census: Census, expectations: Expectations, float_dtype: tuple[FloatDtype, ...]
) -> Iterator[Failure]:
    """One failure, for information, for each pair of dtypes: the usual one and the one that is there.

    Where all floats are of that other dtype, it is no habit of a writer, and one finding about the config.
    """
    told = {name for each in float_dtype for name in each.explains}
    found: dict[tuple[str, str], list[str]] = {}
    for row, dtype, _ in census.counts:
        if row is not None and dtype != row.dtype and dtype in row.allowed:
            names = found.setdefault((row.dtype, dtype), [])
            names += (
                name
                for name in expectations.names_of(row)
                if name in inventory.tensors and inventory.tensors[name].dtype == dtype and name not in told
            )
    for (usual, actual), names in found.items():
        them = tuple(dict.fromkeys(names))
        if them:  # none, where a name is in two shards and loaders take the other
            are = "is" if len(them) == 1 else "are"
            yield RULE.failure(
                f"{plural(len(them), 'tensor')} {are} {actual} where the release has {usual}; loaders take both",
                tensor=them[0],
                expected=usual,
                actual=actual,
                tensors=them,
            )
