"""The quantisation that is declared is the published FP8 block format; of another one nothing here is known."""

from collections.abc import Iterator

from auditor.families.quantised import Declared
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT112",
    slug="foreign-quantisation",
    title="The quantisation is of another format than FP8 blocks",
    severity=Severity.WARNING,
    scope=Scope.CONFIG,
    examines="config fields",
)


def check(foreign_format: Declared | None) -> Iterator[Failure]:
    """A failure where config.json or hf_quant_config.json declares a format that no family reads."""
    if foreign_format is not None:
        yield RULE.failure(
            foreign_format.message,
            file=foreign_format.file,
            field=foreign_format.field,
            expected="fp8",
            actual=foreign_format.name,
        )
