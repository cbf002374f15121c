"""config.json is one JSON object in UTF-8 without duplicate keys."""

from collections.abc import Iterator

from auditor.facts import ConfigFault
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
    for fault in document_faults:
        if fault.kind == RULE.slug:
            yield RULE.failure(
                fault.message,
                file="config.json",
                field=fault.field,
                expected=fault.expected,
                actual=fault.actual,
                blames=(File("config.json"),),
            )
