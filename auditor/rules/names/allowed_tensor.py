"""Tensors that the config does not imply are listed where the policy allows them."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.globs import matches_any
from auditor_schemas.policy import Policy
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM105",
    slug="allowed-tensor",
    title="A tensor that the config does not imply and the policy allows",
    severity=Severity.INFO,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(match: Match, policy: Policy) -> Iterator[Failure]:
    """One failure, for information, per unexpected tensor that the policy allows."""
    globs = policy.allow.unexpected
    for name, header in match.unexpected.items() if globs else ():
        if matches_any(name, globs):
            yield RULE.failure(
                "no tensor of this name follows from the config, the policy allows it",
                tensor=name,
                actual={"shape": list(header.shape), "dtype": header.dtype},
            )
