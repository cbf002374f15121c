"""Every FP8 weight has its weight_scale_inv, in whichever shard."""

from collections.abc import Iterator

from auditor.comparison.records import Pairing
from auditor.format.dtypes import FP8
from auditor.inventory.facts import Inventory
from auditor.text import listed
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT101",
    slug="missing-block-scale",
    title="An FP8 weight has no block scale",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="FP8 weights",
)


def check(inventory: Inventory, pairing: Pairing, quantised_by: str) -> Iterator[Failure]:
    """One failure per weight in fewer bits that lacks what its format needs beside it."""
    for name, lacking in pairing.unscaled.items():
        parts = listed(other.rpartition(".")[2] for other in lacking)
        kind = "FP8" if inventory.tensors[name].dtype == FP8 else "quantised"
        yield RULE.failure(
            f"{kind} weight has no {parts} in any shard, {quantised_by} needs one",
            tensor=name,
            expected=lacking[0],
            takes=lacking,
            blames=lacking,
        )
