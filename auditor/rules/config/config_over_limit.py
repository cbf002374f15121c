"""config.json demands no more layers, experts or tensors than the policy's limits allow."""

from collections.abc import Iterator

from auditor.inventory.facts import ConfigFault
from auditor.rules.recorded import of_config
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="CFG106",
    slug="config-over-limit",
    title="config.json demands more than the limits allow",
    severity=Severity.ERROR,
    scope=Scope.CONFIG,
    examines="config fields",
)


def check(agreement_faults: tuple[ConfigFault, ...]) -> Iterator[Failure]:
    """One failure per fault of config.json of this kind."""
    return of_config(RULE, agreement_faults)
