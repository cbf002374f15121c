"""The checkpoint is of a family that the policy allows, where it names any."""

from collections.abc import Iterator

from auditor_schemas.policy import Policy
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="CFG109",
    slug="forbidden-family",
    title="The policy does not allow the checkpoint's family",
    severity=Severity.ERROR,
    scope=Scope.CONFIG,
    examines="families",
)


def check(family: str, policy: Policy) -> Iterator[Failure]:
    """A failure where the policy names families and this is none of them."""
    families = policy.allow.families
    if families is not None and family not in families:
        yield RULE.failure(
            f"family is {family}, the policy allows {' and '.join(families)}",
            file="config.json",
            field="model_type",
            expected=list(families),
            actual=family,
        )
