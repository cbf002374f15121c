"""config.json is one JSON object in UTF-8 without duplicate keys."""

from collections.abc import Iterator

from auditor.inventory.facts import ConfigFault
from auditor.rules.recorded import of_config
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="CFG102",
    slug="malformed-config",
    title="config.json is not a JSON object",
    severity=Severity.ERROR,
    scope=Scope.CONFIG,
    examines="config fields",
)


def check(document_faults: tuple[ConfigFault, ...]) -> Iterator[Failure]:
    """One failure per fault of config.json of this kind."""
    return of_config(RULE, document_faults, blames=lambda _: (File("config.json"),))
