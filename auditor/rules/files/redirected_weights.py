"""config.json sends no loader to other weights than those beside it."""

from collections.abc import Iterator
from typing import Any

from auditor.inventory.facts import Inventory
from auditor.text import named, quoted
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="FIL102",
    slug="redirected-weights",
    title="transformers_weights names other weights than those audited",
    severity=Severity.ERROR,
    scope=Scope.CONFIG,
    examines="config fields",
)
_KEY = "transformers_weights"


def check(inventory: Inventory, config_fields: dict[str, Any]) -> Iterator[Failure]:
    """A failure where the field names something else than the index, or without one the only shard."""
    given = config_fields.get(_KEY)
    parts = inventory.parts
    audited = "model.safetensors.index.json"
    if inventory.index is None and len(parts) == 1:
        audited = parts[0].path
    if given is not None and given != audited:
        actual = named(given) if isinstance(given, str) else quoted(given)
        yield RULE.failure(
            f"{_KEY} is {actual}, what was audited is {named(audited)}: transformers loads the file named "
            "there, and no other",
            file="config.json",
            field=_KEY,
            expected=audited,
            actual=actual,
        )
