"""Waivers and baseline → each finding's status, and what became of both. Pure; imported where there are any."""

from collections.abc import Iterable, Sequence

from auditor.patterns import patterns
from auditor.verdict.attribute import MOST, Attributed
from auditor.verdict.baseline import Baseline
from auditor.verdict.gate import Judgement
from auditor.verdict.waive import Files, Member, Waivers, members
from auditor_schemas.finding import Finding
from auditor_schemas.report import RuleOutcome


def judge(
    found: Sequence[Attributed],
    outcomes: Sequence[RuleOutcome],
    *,
    waivers: Waivers,
    baseline: Baseline | None,
    files: Files,
) -> Judgement:
    """Give each finding its status.

    A finding is known where the baseline has every member, and waived where waivers cover every member that is
    new. One that is excused in part gates as a whole and says which members are not. What a finding explains
    shares its status.
    """
    judged = [_judge(each, waivers, baseline, files) for each in found]
    roots = {each.fingerprint: each for each in judged if each.caused_by is None and each.status != "new"}
    return Judgement(
        tuple(_inherit(each, roots) for each in judged),
        tuple(waivers.uses(outcomes)),
        tuple(baseline.gone(found, outcomes)) if baseline is not None else (),
    )


def _judge(found: Attributed, waivers: Waivers, baseline: Baseline | None, files: Files) -> Finding:
    finding = found.finding
    if finding.more:  # nobody has seen all of it
        if waivers.has(finding.rule):
            waivers.covered(finding.rule, members(found, files))
        return finding
    unknown = None if baseline is None else baseline.unknown(found)
    waived = waivers.has(finding.rule)
    if unknown is None and not waived:
        return finding
    known = unknown is not None and not unknown
    if known and not waived:
        return finding.model_copy(update={"status": "known"})
    them = list(members(found, files))
    rest = {each for each in them if unknown is None or each.key in unknown}
    used = []
    for position, covered in waivers.covered(finding.rule, them) if waived else ():
        if covered and (known or covered & rest):
            used.append(position)
        rest -= covered
    if known:
        waivers.use(used)
        return finding.model_copy(update={"status": "known"})
    if not rest and used:
        waivers.use(used)
        return finding.model_copy(update={"status": "waived", "waiver": waivers.joined(used)})
    return finding.model_copy(update={"uncovered": _names(rest)[:MOST]}) if len(rest) < len(set(them)) else finding


def _inherit(finding: Finding, roots: dict[str, Finding]) -> Finding:
    root = roots.get(finding.caused_by or "")
    if root is None or finding.status != "new" or finding.more:
        return finding
    return finding.model_copy(update={"status": root.status, "waiver": root.waiver, "uncovered": ()})


def _names(rest: Iterable[Member]) -> tuple[str, ...]:
    """The members as patterns, as `affected` has them; files and fields by their names."""
    tensors = [each.tensor for each in rest if each.tensor is not None]
    others = {each.name for each in rest if each.tensor is None}
    return (*sorted(others), *patterns(tensors))
