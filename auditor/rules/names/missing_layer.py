"""Every layer that config.json implies has tensors."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.families.expectations import Expectations
from auditor.text import plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM103",
    slug="missing-layer",
    title="All tensors of a layer are missing",
    severity=Severity.ERROR,
    scope=Scope.MODULE,
    examines="layers",
)


def check(match: Match, expectations: Expectations) -> Iterator[Failure]:
    """One failure per main-model layer of which not one tensor is there."""
    for layer, names in match.missing_layers.items():
        if layer not in expectations.mtp_layers:
            yield RULE.failure(
                f"layer {layer} is missing, {plural(len(names), 'tensor')}",
                tensors=names,
                takes=names,
                expected=len(names),
                actual=0,
                fold=RULE.slug,
            )
