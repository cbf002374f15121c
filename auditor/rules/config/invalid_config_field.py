"""Each config.json field that decides the layout has a type and a value it can have."""

from collections.abc import Iterator

from auditor.inventory.facts import ConfigFault
from auditor.rules.recorded import of_config
from auditor_schemas.rule import ConfigField, Failure, Rule, Scope, Severity

RULE = Rule(
    id="CFG103",
    slug="invalid-config-field",
    title="A config.json field has a value it cannot have",
    severity=Severity.ERROR,
    scope=Scope.CONFIG,
    examines="config fields",
)


def check(field_faults: tuple[ConfigFault, ...]) -> Iterator[Failure]:
    """One failure per fault of config.json of this kind."""
    return of_config(RULE, field_faults, blames=lambda fault: (ConfigField(fault.field),) if fault.field else ())
