"""Layers and experts are numbered within what config.json counts; a loader looks for the place of any other."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.globs import matches_any
from auditor_schemas.policy import Policy
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM107",
    slug="number-beyond-config",
    title="A layer or expert has a number that the config does not count",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(match: Match, policy: Policy) -> Iterator[Failure]:
    """One failure per tensor of such a layer or expert, MTP modules and what the policy allows left out."""
    for name, (what, number, count) in match.beyond.items():
        if matches_any(name, policy.allow.unexpected):
            continue
        numbered = f"the config has {count:,}, numbered from 0" if count else "the config has none in this layer"
        yield RULE.failure(
            f"{what} {number:,}: {numbered}",
            tensor=name,
            expected=count,
            actual=number,
            takes=(name,),
            fold=(what, count),
        )
