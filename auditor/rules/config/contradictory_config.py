"""The fields of config.json agree with each other."""

from collections.abc import Iterator

from auditor.inventory.facts import ConfigFault
from auditor.rules.recorded import of_config
from auditor_schemas.rule import ConfigField, Failure, Rule, Scope, Severity

RULE = Rule(
    id="CFG104",
    slug="contradictory-config",
    title="config.json fields contradict each other",
    severity=Severity.ERROR,
    scope=Scope.CONFIG,
    examines="config fields",
)


def check(agreement_faults: tuple[ConfigFault, ...]) -> Iterator[Failure]:
    """One failure per fault of config.json of this kind."""
    return of_config(RULE, agreement_faults, blames=lambda fault: (ConfigField(fault.field),) if fault.field else ())
