"""Every weight_scale_inv has its FP8 weight, in whichever shard."""

from collections.abc import Iterator

from auditor.comparison.records import Pairing
from auditor.families.scaling import SCALE_SUFFIX
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
    for name in pairing.orphans:
        weight = inventory.tensors.get(name.removesuffix(SCALE_SUFFIX))
        there = "is not there" if weight is None else f"is {weight.dtype}"
        yield RULE.failure(
            f"scale belongs to a weight that {there}, needs F8_E4M3",
            tensor=name,
            expected="F8_E4M3",
            actual=None if weight is None else weight.dtype,
            takes=(name,),
        )
