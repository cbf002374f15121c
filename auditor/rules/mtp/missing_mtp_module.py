"""Every MTP module that num_nextn_predict_layers promises has its tensors; some saves drop it."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.families.expectations import Expectations
from auditor.families.naming import Naming
from auditor_schemas.config import ModelConfig
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="MTP101",
    slug="missing-mtp-module",
    title="config.json promises an MTP module that is not there",
    severity=Severity.ERROR,
    scope=Scope.MODULE,
    examines="MTP modules",
)


def check(match: Match, expectations: Expectations, config: ModelConfig) -> Iterator[Failure]:
    """One failure per MTP layer of which not one tensor is there."""
    for layer, names in match.missing_layers.items():
        if layer in expectations.mtp_layers:
            yield RULE.failure(
                f"{config.mtp_told}, {_name(expectations.naming, layer)} has no tensor",
                field=config.mtp_field,
                tensors=names,
                takes=names,
                expected=len(names),
                actual=0,
                fold=RULE.slug,
            )


def _name(naming: Naming, layer: int) -> str:
    """An MTP module as its tensors have it: a further layer, or one of a stack of its own."""
    stack, _ = naming.place(layer)
    return f"layer {layer}" if stack == naming.stacks[0].prefix else naming.prefix(layer).rstrip(".")
