"""The tensors agree with config.json about every dimension, every count and the block size."""

from collections.abc import Iterator

from auditor.comparison.records import Correction
from auditor.text import quoted
from auditor_schemas.rule import ConfigField, Failure, Rule, Scope, Severity

RULE = Rule(
    id="CFG107",
    slug="contradicted-config-field",
    title="config.json and the tensors disagree about a field",
    severity=Severity.ERROR,
    scope=Scope.CONFIG,
    examines="config fields",
)


def check(corrections: tuple[Correction, ...]) -> Iterator[Failure]:
    """One failure per field for which nearly all tensors show another value with one voice."""
    for correction in corrections:
        yield RULE.failure(
            f"{correction.field} is {quoted(correction.declared)}, the tensors show {quoted(correction.shown)}",
            file="config.json",
            field=correction.field,
            expected=correction.shown,
            actual=correction.declared,
            tensors=correction.explained,
            takes=(*correction.explained, *map(ConfigField, correction.settles)),
        )
