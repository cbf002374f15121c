"""quantization_config, where there is one, describes FP8 block quantisation as published."""

from collections.abc import Iterator

from auditor.inventory.facts import ConfigFault
from auditor.rules.recorded import of_config
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="CFG105",
    slug="invalid-quantization-config",
    title="quantization_config is not the published FP8 block format",
    severity=Severity.ERROR,
    scope=Scope.CONFIG,
    examines="config fields",
)


def check(field_faults: tuple[ConfigFault, ...]) -> Iterator[Failure]:
    """One failure per fault of config.json of this kind."""
    return of_config(RULE, field_faults)
