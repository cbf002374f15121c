"""The checkpoint has a config.json to derive its tensors from."""

from collections.abc import Iterator

from auditor.inventory.facts import ConfigFault
from auditor.rules.recorded import of_config
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="CFG101",
    slug="missing-config",
    title="config.json is missing",
    severity=Severity.ERROR,
    scope=Scope.CONFIG,
    examines="config fields",
)


def check(config_faults: tuple[ConfigFault, ...]) -> Iterator[Failure]:
    """One failure per fault of config.json of this kind."""
    return of_config(RULE, config_faults, blames=lambda _: (File("config.json"),))
