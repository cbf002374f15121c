"""The tensors are named as the family names them that the audit is of, by model_type or by --family."""

from collections.abc import Iterator
from typing import Any

from auditor.comparison.records import OtherFamily
from auditor.format.files import CONFIG
from auditor.inventory.facts import ConfigFault, Inventory
from auditor.text import named, plural, quoted
from auditor_schemas.rule import ConfigField, Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM112",
    slug="other-family",
    title="Tensors are named as another family names them",
    severity=Severity.ERROR,
    scope=Scope.CONFIG,
    examines="families",
)


def check(
    inventory: Inventory,
    family: str,
    other_family: tuple[OtherFamily, ...],
    config_fields: dict[str, Any],
    config_faults: tuple[ConfigFault, ...],
) -> Iterator[Failure]:
    """One failure for all that disagrees, and for what the family asked of config.json."""
    for each in other_family:
        declared = f" (model_type {quoted(config_fields['model_type'])})" if "model_type" in config_fields else ""
        common = "" if each.expected is None else f"; {each.there:,} of {plural(each.expected, 'expected name')} there"
        yield RULE.failure(
            f"audited as {family}{declared}, the tensors are named as in {' and '.join(each.named.families)}: "
            f"{each.named.count:,} such as {named(each.named.example)}{common}",
            file=CONFIG,
            field="model_type",
            expected=family,
            actual=list(each.named.families),
            tensors=[name for name in each.explains if name in inventory.tensors],
            takes=(*each.explains, *each.beside, *(ConfigField(fault.field) for fault in config_faults if fault.field)),
        )
