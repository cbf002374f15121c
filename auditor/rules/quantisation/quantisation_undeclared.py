"""Where config.json is there, it or a file beside it declares what weights are quantised as."""

from collections.abc import Iterator

from auditor.comparison.structure.facts import Undeclared
from auditor.text import plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT209",
    slug="quantisation-undeclared",
    title="Weights are quantised and nothing declares it",
    severity=Severity.WARNING,
    scope=Scope.CHECKPOINT,
    examines="weights in codes",
)


def check(undeclared: Undeclared) -> Iterator[Failure]:
    """A failure where weights are in a known format."""
    found = undeclared.pairs.found
    if found:
        weights = sum(each.weights for each in found)
        names = " and ".join(dict.fromkeys(each.format for each in found))
        yield RULE.failure(
            f"{plural(weights, 'weight')} are in {names}, config.json declares no quantisation",
            file="config.json",
            field="quantization_config",
            actual=names,
        )
