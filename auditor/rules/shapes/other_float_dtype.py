"""What stays unquantised has the float dtype that config.json gives it."""

from collections.abc import Iterator

from auditor.comparison.records import FloatDtype
from auditor.text import plural
from auditor_schemas.config import ModelConfig
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="SHP106",
    slug="other-float-dtype",
    title="All unquantised tensors have another float dtype than the config's",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="tensors",
)


def check(float_dtype: tuple[FloatDtype, ...], config: ModelConfig) -> Iterator[Failure]:
    """One failure for all of them, at the field that decides their dtype."""
    field = "dtype" if config.dtype is not None else "torch_dtype"
    given = config.float_dtype if config.dtype or config.torch_dtype else f"not given, which is {config.float_dtype}"
    for each in float_dtype:
        yield RULE.failure(
            f"{field} is {given}, the {plural(len(each.explains), 'tensor')} that it gives {each.needed} "
            f"are {each.actual}",
            file="config.json",
            field=field,
            expected=each.needed,
            actual=each.actual,
            tensors=each.explains,
            takes=each.explains,
        )
