"""Modules that stay unquantised are listed once, or alike under both names; loaders read the one or the other."""

from collections.abc import Iterator

from auditor.inventory.facts import ConfigFault
from auditor.rules.recorded import of_config
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="CFG110",
    slug="differing-exemptions",
    title="ignored_layers and modules_to_not_convert exempt different modules",
    severity=Severity.WARNING,
    scope=Scope.CONFIG,
    examines="config fields",
)


def check(agreement_faults: tuple[ConfigFault, ...]) -> Iterator[Failure]:
    """A failure where both lists are given and differ."""
    return of_config(RULE, agreement_faults)
