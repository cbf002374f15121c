"""FP8 weights with scales are declared by quantization_config; loaders otherwise read the codes as values."""

from collections.abc import Iterator

from auditor.comparison.records import Pairing
from auditor.families.expectations import Expectations
from auditor.text import plural
from auditor_schemas.config import ModelConfig
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT107",
    slug="undeclared-quantisation",
    title="Weights are FP8, config.json declares no quantisation",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="FP8 weights",
)


def check(pairing: Pairing, config: ModelConfig, expectations: Expectations) -> Iterator[Failure]:
    """A failure where there is no quantization_config and FP8 weights have their scales."""
    if config.quantization_config is not None or any(row.quantised for row in expectations.layers_of):
        return
    weights = [name for grid in pairing.grids for name in grid.weights]
    if weights:
        scales = tuple(grid.companion.of(name) for grid in pairing.grids for name in grid.weights)
        yield RULE.failure(
            f"quantization_config is not there, {plural(len(weights), 'weight')} are FP8 with scales",
            file="config.json",
            field="quantization_config",
            expected="quant_method fp8",
            actual=None,
            tensors=weights,
            takes=(*weights, *scales),
        )
