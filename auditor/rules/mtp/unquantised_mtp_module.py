"""MTP modules are quantised as the main model is, unless modules_to_not_convert lists them."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.families.expectations import Expectations
from auditor.families.scaling import scale_name
from auditor.format.entries import is_fp8
from auditor.inventory.facts import Inventory
from auditor.patterns import layer_of
from auditor_schemas.config import QuantizationConfig
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="MTP103",
    slug="unquantised-mtp-module",
    title="The main model is FP8, an MTP module is not",
    severity=Severity.ERROR,
    scope=Scope.MODULE,
    examines="MTP modules",
)


def check(
    inventory: Inventory, quantization: QuantizationConfig, expectations: Expectations, match: Match
) -> Iterator[Failure]:
    """One failure per MTP layer of which no weight is FP8 while the main model has FP8 weights."""
    if not match.mistyped:
        return
    covered: dict[int, list[str]] = {layer: [] for layer in expectations.mtp_layers}
    main_is_fp8 = False
    for name, row in expectations.names.items():
        if row.quantised and name in inventory.tensors:
            layer = layer_of(name)
            if layer in covered:
                covered[layer].append(name)
            else:
                main_is_fp8 = main_is_fp8 or name not in match.mistyped
    for layer, names in covered.items():
        if main_is_fp8 and names and not any(is_fp8(inventory.tensors[name]) for name in names):
            yield RULE.failure(
                f"MTP layer {layer} is {inventory.tensors[names[0]].dtype}, quantization_config makes it F8_E4M3",
                tensor=names[0],
                expected="F8_E4M3",
                actual=inventory.tensors[names[0]].dtype,
                tensors=names,
                takes=(*names, *map(scale_name, names)),
            )
