"""Block scales are named weight_scale_inv, as quant_method fp8 with weight_block_size promises."""

from collections.abc import Iterator

from auditor.comparison.records import Pairing
from auditor.families.scaling import other_scale_names
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT105",
    slug="renamed-block-scales",
    title="Scales follow another naming convention",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="FP8 weights",
)


def check(inventory: Inventory, pairing: Pairing, quantised_by: str) -> Iterator[Failure]:
    """One failure per spelling that FP8 weights' scales have instead of weight_scale_inv."""
    found: dict[str, list[str]] = {}
    needed = {name: lacking[0] for name, lacking in pairing.unscaled.items()}
    for name in needed:
        for spelling, scale in other_scale_names(name):
            if scale in inventory.tensors:
                found.setdefault(spelling, []).append(name)
    # What goes with a weight by its own format is no other spelling of what it lacks beside that.
    own = {grid.companion.of(name) for grid in pairing.grids for name in grid.weights} if found else set()
    for spelling, named in found.items():
        weights = [name for name in named if name.removesuffix("weight") + spelling not in own]
        if not weights:
            continue
        scales = [scale for name in weights for each, scale in other_scale_names(name) if each == spelling]
        yield RULE.failure(
            f"scales are named {spelling}, {quantised_by} needs {needed[weights[0]].rpartition('.')[2]}",
            tensor=scales[0],
            expected=needed[weights[0]].rpartition(".")[2],
            actual=spelling,
            tensors=scales,
            takes=(*scales, *weights, *map(needed.__getitem__, weights)),
        )
