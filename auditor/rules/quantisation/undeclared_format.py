"""Weights are in the format that config.json declares; those of another quantisation load as nothing else."""

from collections.abc import Iterator

from auditor.comparison.records import Packing
from auditor.families.expectations import Expectations
from auditor.inventory.facts import Inventory
from auditor.text import named, plural
from auditor_schemas.config import ModelConfig
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT113",
    slug="undeclared-format",
    title="Weights are in a quantisation that config.json does not declare",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="tensors",
)


def check(
    inventory: Inventory, packed: tuple[Packing, ...], config: ModelConfig, expectations: Expectations
) -> Iterator[Failure]:
    """One failure per format that tensors are stored in and nothing declares."""
    declared = "no quantisation" if config.quantization_config is None else config.quantization_config.quant_method
    for each in packed:
        stored = dict.fromkeys((each.stored, *(name for name in each.explains if name in inventory.tensors)))
        weights = [f"{name.rpartition('.')[0]}.weight" for name in each.explains]
        yield RULE.failure(
            f"{plural(each.count, 'weight')} are {each.format}, such as {named(each.stored)}; "
            f"config.json declares {declared}",
            file="config.json",
            tensor=each.stored,
            field="quantization_config",
            expected=declared,
            actual=each.format,
            tensors=tuple(stored),
            takes=tuple(dict.fromkeys((*each.explains, *weights, *map(expectations.naming.scale, weights)))),
        )
