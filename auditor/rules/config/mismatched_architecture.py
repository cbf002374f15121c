"""architectures, where given, names the class that belongs to the model_type."""

from collections.abc import Iterator

from auditor.text import quoted
from auditor_schemas.config import ModelConfig
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="CFG108",
    slug="mismatched-architecture",
    title="architectures names another model class than model_type implies",
    severity=Severity.WARNING,
    scope=Scope.CONFIG,
    examines="config fields",
)


def check(config: ModelConfig, expected_architectures: tuple[str, ...]) -> Iterator[Failure]:
    """A failure where architectures is given and none of its names is the family's."""
    given = config.architectures
    if given is not None and not set(given) & set(expected_architectures):
        needed = " or ".join(expected_architectures)
        yield RULE.failure(
            f"architectures is {quoted(given)}, model_type {quoted(config.model_type)} needs {needed}",
            file="config.json",
            field="architectures",
            expected=list(expected_architectures),
            actual=quoted(given),
            blames=(File("config.json"),),
        )
