"""Every weight_scale_inv has its FP8 weight, in whichever shard."""

from collections.abc import Iterator

from auditor.comparison.records import Pairing
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT103",
    slug="orphan-block-scale",
    title="A scale has no FP8 weight",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="scales",
)


def check(inventory: Inventory, pairing: Pairing) -> Iterator[Failure]:
    """One failure per scale whose weight is missing or not FP8, whatever the config declares."""
    for name, orphan in pairing.orphans.items():
        weight = inventory.tensors.get(orphan.weight)
        there = "is not there" if weight is None else f"is {weight.dtype}"
        yield RULE.failure(
            f"scale belongs to a weight that {there}, needs {orphan.dtype}",
            tensor=name,
            expected=orphan.dtype,
            actual=None if weight is None else weight.dtype,
            takes=(name,),
        )
