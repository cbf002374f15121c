"""What findings are judged by: a policy, a baseline and what fails → severities, statuses, and the verdict."""

import hashlib
from collections.abc import Sequence
from datetime import date
from os import PathLike
from typing import TYPE_CHECKING

from msgspec import Struct

from auditor.inventory.facts import Inventory
from auditor.rules import RuleModule, catalogue
from auditor.sources import Symlinks
from auditor.verdict import gate
from auditor.verdict.attribute import Attributed
from auditor.verdict.gate import FailOn, Judgement
from auditor_schemas.finding import Finding
from auditor_schemas.policy import DEFAULT_POLICY, Policy
from auditor_schemas.report import Coverage, RuleOutcome, Verdict

if TYPE_CHECKING:
    from auditor.verdict.baseline import Baseline


class Measure(Struct, frozen=True):
    """A policy with the SHA-256 of its file, a baseline, and what fails."""

    policy: Policy = DEFAULT_POLICY
    sha256: str | None = None
    baseline: "Baseline | None" = None
    fail_on: FailOn = "error"

    def severities(self, rules: Sequence[RuleModule]) -> Sequence[RuleModule]:
        """The rules with the severities that the policy gives them: what explains what follows from these."""
        if not self.policy.severity:
            return rules
        from auditor.verdict.policy import rule_named

        known = [module.rule for module in rules]
        named = ((rule_named(name, known), severity) for name, severity in self.policy.severity.items())
        chosen = {rule.id: severity for rule, severity in named if rule is not None}
        return [
            RuleModule(module.rule.model_copy(update={"severity": chosen[module.rule.id]}), module.check, module.needs)
            if module.rule.id in chosen
            else module
            for module in rules
        ]

    def judged(
        self, found: Sequence[Attributed], outcomes: Sequence[RuleOutcome], inventory: Inventory, today: date
    ) -> Judgement:
        """What waivers and baseline make of the findings."""
        if self.baseline is None and not self.policy.waivers:
            return Judgement(tuple(each.finding for each in found))
        from auditor.verdict.judge import judge
        from auditor.verdict.policy import rule_named
        from auditor.verdict.waive import Files, Waivers

        known = [module.rule for module in catalogue()]
        pairs = [(waiver, rule) for waiver in self.policy.waivers if (rule := rule_named(waiver.rule, known))]
        return judge(
            found,
            outcomes,
            waivers=Waivers(tuple(pairs), today),
            baseline=self.baseline,
            files=Files([(shard.path, shard.tensors) for shard in inventory.parts], inventory.index),
        )

    def verdict(
        self,
        findings: Sequence[Finding],
        incomplete: Sequence[str],
        coverage: Coverage,
        *,
        depth: str,
        payload_bytes: int,
        fp8_blocks: int,
        nothing_expected: str | None,
    ) -> tuple[Verdict, list[str]]:
        """The verdict, and what was required and is not met.

        `nothing_expected`: why nothing was expected of the tensors, where nothing was.
        """
        unmet = gate.unmet(self.policy.require, depth, coverage, payload_bytes=payload_bytes, fp8_blocks=fp8_blocks)
        verdict = gate.decide(findings, incomplete, self.fail_on, unmet)
        if verdict == "passed" and nothing_expected is not None:
            # What would be wrong with the tensors nobody can say: no severity, waiver or baseline makes that a pass.
            unmet.append(f"nothing was expected of the tensors: {nothing_expected}")
            verdict = gate.decide(findings, incomplete, self.fail_on, unmet)
        return verdict, unmet


def policy_of(
    policy: Policy | str | PathLike[str] | None, symlinks: Symlinks | None = None
) -> tuple[Policy, str | None]:
    """A policy, with symlinks as the caller wants them, and the SHA-256 of its file. Raises UsageError."""
    digest = None
    if policy is None:
        policy = DEFAULT_POLICY
    else:
        from auditor.verdict.policy import check_policy, read_policy  # costs more than a default policy is worth

        if isinstance(policy, Policy):
            check_policy(policy, catalogue())
            digest = hashlib.sha256(policy.model_dump_json().encode()).hexdigest()
        else:
            policy, digest = read_policy(policy, catalogue())
    if symlinks is not None and symlinks != policy.symlinks:
        policy = policy.model_copy(update={"symlinks": symlinks})
    return policy, digest
