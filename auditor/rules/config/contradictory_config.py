"""The fields of config.json agree with each other."""

from collections.abc import Iterator

from auditor.inventory.facts import ConfigFault
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
    for fault in agreement_faults:
        if fault.kind == RULE.slug:
            yield RULE.failure(
                fault.message,
                file="config.json",
                field=fault.field,
                expected=fault.expected,
                actual=fault.actual,
                blames=(ConfigField(fault.field),) if fault.field else (),
            )
