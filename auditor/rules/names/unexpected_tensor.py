"""Every tensor is one that config.json implies; loaders ignore others or refuse them."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.families.expectations import Expectations
from auditor.globs import matches_any
from auditor_schemas.policy import Policy
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM102",
    slug="unexpected-tensor",
    title="A tensor that the config does not imply",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="tensors",
)


def check(match: Match, policy: Policy, expectations: Expectations) -> Iterator[Failure]:
    """One failure per unexpected tensor that no other rule speaks of and the policy does not allow."""
    told = match.named_as
    wider = f"; the tensors are named as in {' and '.join(told.families)}" if told is not None and told.wider else ""
    for name, header in match.unexpected.items():
        if (
            expectations.naming.layer_of(name) in match.undeclared_mtp
            or name in match.beyond
            or matches_any(name, policy.allow.unexpected)
        ):
            continue
        yield RULE.failure(
            f"no tensor of this name follows from the config{wider}",
            tensor=name,
            actual={"shape": list(header.shape), "dtype": header.dtype},
        )
