"""Every rule, applied to the facts that it asks for: its failures, and what became of it."""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec.structs import replace

from auditor.errors import Unread
from auditor.inventory.facts import Blocked
from auditor.rules import RuleModule
from auditor.verdict.attribute import bound_failures
from auditor_schemas.codes import Code
from auditor_schemas.report import RuleOutcome
from auditor_schemas.rule import Failure


def apply_rules(
    rules: Sequence[RuleModule], facts: dict[str, Any], examined: dict[str, int]
) -> tuple[list[Failure], list[RuleOutcome], list[Unread]]:
    """Every rule's failures and outcome, and which ones crashed: errored, they take no other with them."""
    failures: list[Failure] = []
    crashed: list[Unread] = []
    outcomes: list[RuleOutcome] = []
    for module in rules:
        rule = module.rule
        outcome: Literal["passed", "failed", "not_applicable", "errored"] = "passed"
        reason = next((facts[name].reason for name in module.needs if isinstance(facts[name], Blocked)), None)
        looked_at = 0 if reason is not None else examined[rule.examines]
        if reason is not None:
            outcome = "not_applicable"
        else:
            try:
                found = bound_failures(module.check(**{name: facts[name] for name in module.needs}))
            except Exception as error:  # the runner answers for a rule that crashes
                outcome, reason = "errored", f"{type(error).__name__}: {error}"
                code: Code = "out_of_memory" if isinstance(error, MemoryError) else "crashed"
                crashed.append(Unread(f"{rule.id} {rule.slug} crashed: {reason}", code))
            else:
                # A policy may have given the rule another severity than the one its failures carry.
                failures.extend(each if each.rule is rule else replace(each, rule=rule) for each in found)
                outcome = "failed" if found else "passed"
                if not found and not looked_at:  # what had nothing to look at has not passed
                    outcome, reason = "not_applicable", f"nothing to look at: no {rule.examines}"
        outcomes.append(
            RuleOutcome(
                rule=rule.id,
                slug=rule.slug,
                title=rule.title,
                severity=rule.severity,
                outcome=outcome,
                reason=reason,
                examined=looked_at,
            )
        )
    return failures, outcomes, crashed
