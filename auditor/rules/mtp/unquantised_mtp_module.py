"""MTP modules are quantised as the main model is, unless modules_to_not_convert lists them."""

from collections.abc import Iterator
from itertools import chain

from auditor.comparison.records import Match
from auditor.families.expectations import Expectations
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="MTP103",
    slug="unquantised-mtp-module",
    title="The main model is FP8, an MTP module is not",
    severity=Severity.ERROR,
    scope=Scope.MODULE,
    examines="MTP modules",
)


def check(inventory: Inventory, quantised_by: str, expectations: Expectations, match: Match) -> Iterator[Failure]:
    """One failure per MTP layer of which no weight is FP8 while the main model has FP8 weights."""
    if not match.mistyped:
        return
    covered: dict[int, list[str]] = {layer: [] for layer in expectations.mtp_layers}
    main_is_fp8 = False
    for name, row in expectations.names.items():
        if row.quantised and name in inventory.tensors:
            layer = expectations.naming.layer_of(name)
            if layer in covered:
                covered[layer].append(name)
            else:
                main_is_fp8 = main_is_fp8 or name not in match.mistyped
    for layer, names in covered.items():
        if main_is_fp8 and names and all(name in match.mistyped for name in names):
            needed, actual = expectations.names[names[0]].dtype, inventory.tensors[names[0]].dtype
            yield RULE.failure(
                f"MTP layer {layer} is {actual}, quantization_config makes it {needed}",
                tensor=names[0],
                expected=needed,
                actual=actual,
                tensors=names,
                takes=(*names, *chain.from_iterable(map(expectations.beside, names))),
            )
