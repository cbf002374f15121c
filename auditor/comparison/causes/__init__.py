"""What accounts for many disagreements between config and tensors at once, found before any config field is blamed.

One file for each kind of cause: a pure function of the inventory, the expectations and what the causes before it leave
to explain. A cause explains no more than it can show name by name, so what else is wrong stays to be told.
"""

from collections.abc import Callable

from auditor.comparison.causes.empty import empty
from auditor.comparison.causes.expert_counts import expert_counts
from auditor.comparison.causes.exported import find_part
from auditor.comparison.causes.float_dtype import float_dtype
from auditor.comparison.causes.fused import find_fusions
from auditor.comparison.causes.left_out import left_out
from auditor.comparison.causes.lost import lost
from auditor.comparison.causes.misdeclared import find_misdeclared
from auditor.comparison.causes.other_family import find_other_family
from auditor.comparison.causes.packed import find_packing
from auditor.comparison.causes.partition import expert_rank, stage, tensor_rank
from auditor.comparison.causes.renamed import find_renamings, foreign
from auditor.comparison.causes.renumbered import find_renumbering
from auditor.comparison.records import Cause, Match
from auditor.families.expectations import Expectations
from auditor.inventory.facts import Inventory

Find = Callable[[Inventory, Expectations, Match], tuple[Cause, ...]]

# By the name of the fact that rules ask for, in the order in which they are looked for: what is stored says most by its
# names, and what is not there says least, so absence counts for a cause only after shards that were not read.
# `exported` and `lost` have no rule of their own: those about files tell of them.
CAUSES: dict[str, Find] = {
    "exported": find_part,
    "other_family": find_other_family,
    "empty": empty,
    "misdeclared": find_misdeclared,
    "packed": find_packing,
    "left_out": left_out,
    "renumbered": find_renumbering,
    "renamings": find_renamings,
    "foreign": foreign,
    "fusions": find_fusions,
    "lost": lost,
    "tensor_rank": tensor_rank,
    "expert_rank": expert_rank,
    "stage": stage,
    "expert_counts": expert_counts,
    "float_dtype": float_dtype,
}


def causes_of(
    inventory: Inventory, expectations: Expectations, match: Match
) -> tuple[dict[str, tuple[Cause, ...]], Match]:
    """Every cause by the name of its fact, and what they leave to explain."""
    found: dict[str, tuple[Cause, ...]] = {}
    for name, find in CAUSES.items():
        found[name] = find(inventory, expectations, match) if match.faults else ()
        match = match.without({each for cause in found[name] for each in cause.explains})
    return found, match
