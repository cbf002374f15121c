"""Modules that stay unquantised are listed once, or alike under both names; loaders read the one or the other."""

from collections.abc import Iterator

from auditor.facts import ConfigFault
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
    for fault in agreement_faults:
        if fault.kind == RULE.slug:
            yield RULE.failure(
                fault.message, file="config.json", field=fault.field, expected=fault.expected, actual=fault.actual
            )
