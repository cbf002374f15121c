"""The first screen: may it be shipped, why, and what was looked at to say so."""

from dataclasses import dataclass

from auditor_reports import text
from auditor_reports.outline import gates, remarks
from auditor_reports.view_findings import FindingsView, FindingView
from auditor_schemas.report import AuditReport

WORDS = {"passed": "Passed", "failed": "Failed", "incomplete": "Incomplete"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """How many findings there are of one sort."""

    kind: str
    count: str
    noun: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """One thing that was, or was not, looked at."""

    yes: bool
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictView:
    """The verdict in a word, its answer, and the sentence that gives the reason."""

    kind: str
    word: str
    answer: str
    sentence: str
    reasons: tuple[str, ...]
    unmet: tuple[str, ...]
    remarks: tuple[str, ...]
    badges: tuple[Badge, ...]
    heading: str
    top: tuple[FindingView, ...]
    covered: tuple[Covered, ...]
    depth: str


def verdict_view(report: AuditReport, listed: FindingsView) -> VerdictView:
    """The verdict, worded for a reader with no time."""
    return VerdictView(
        kind=report.verdict,
        word=WORDS[report.verdict],
        answer=_answer(report, listed),
        sentence=_sentence(report, listed),
        reasons=report.incomplete,
        unmet=report.unmet,
        remarks=tuple(remarks(report)),
        badges=_badges(report, listed),
        heading=_heading(report, listed),
        top=_top(report, listed),
        covered=_covered(report),
        depth=report.run.depth,
    )


def _heading(report: AuditReport, listed: FindingsView) -> str:
    """What stands above the most important findings."""
    if not listed.top:
        return ""
    if not (listed.roots["error"] or listed.roots["warning"]):
        return "Worth knowing"
    return "Why" if report.verdict == "failed" and _gating(report, listed) else "Most important"


def _gating(report: AuditReport, listed: FindingsView) -> tuple[FindingView, ...]:
    first = zip(listed.top, listed.order, strict=False)
    return tuple(view for view, position in first if gates(report, report.findings[position]))


def _top(report: AuditReport, listed: FindingsView) -> tuple[FindingView, ...]:
    """The most important findings: of a failed audit what fails it; what is worth knowing where there is no other."""
    reasons = _gating(report, listed) if report.verdict == "failed" else ()
    return reasons or tuple(view for view in listed.top if view.severity != "info") or listed.top


def _answer(report: AuditReport, listed: FindingsView) -> str:
    """May it be shipped?"""
    if report.verdict == "incomplete":
        found = f", and {text.plural(errors, 'error')} in what was" if (errors := listed.roots["error"]) else ""
        return f"Undecided: not everything could be read{found}."
    if report.verdict == "failed":
        return "Do not ship this checkpoint."
    standing = [f"{text.plural(n, severity)}" for severity in ("error", "warning") if (n := listed.roots[severity])]
    if report.fail_on == "never" and listed.roots["error"]:
        return f"Let through in spite of {text.listed(standing)}: this gate never fails."
    if standing:
        return f"May be shipped; {text.listed(standing)} did not stop it."
    return "May be shipped, as far as was looked." if report.meaning is None else "Consistent with itself."


def _sentence(report: AuditReport, listed: FindingsView) -> str:
    tensors, shards = text.plural(report.inventory.tensors, "tensor"), text.plural(report.inventory.shards, "shard")
    found = [
        text.plural(listed.roots[severity], severity) for severity in ("error", "warning") if listed.roots[severity]
    ]
    within = f"{tensors} in {shards}"
    if report.verdict != "passed" and found:
        within = f"{text.listed(found)} in {tensors} of {shards}"
    meaning = "" if report.meaning is None else f" {report.meaning[:1].upper()}{report.meaning[1:]}."
    return f"At depth {report.run.depth}: {within}; {_payload(report)}.{meaning}"


def _payload(report: AuditReport) -> str:
    read, whole = report.coverage.payload_bytes_read, report.inventory.payload_bytes
    if read == 0:
        return "tensor data was not read"
    if read >= whole:
        return "every byte of tensor data was read"
    return f"{text.share(read, whole)} of tensor data was read"


def _badges(report: AuditReport, listed: FindingsView) -> tuple[Badge, ...]:
    """What was found, root causes apart from consequences."""
    badges = [
        Badge(kind=kind, count=text.number(listed.roots[kind]), noun=noun if listed.roots[kind] == 1 else nouns)
        for kind, noun, nouns in (("error", "error", "errors"), ("warning", "warning", "warnings"))
    ]
    badges.append(Badge(kind="info", count=text.number(listed.roots["info"]), noun="worth knowing"))
    if listed.consequences:
        badges.append(Badge(kind="plain", count=text.number(listed.consequences), noun="explained by these"))
    for status, noun in (("known", "known from the baseline"), ("waived", "waived")):
        count = sum(finding.status == status for finding in report.findings)
        if count:
            badges.append(Badge(kind="plain", count=text.number(count), noun=noun))
    return tuple(badges)


def _covered(report: AuditReport) -> tuple[Covered, ...]:
    """What was looked at first, then what was not."""
    return tuple(sorted((*_seen(report), *_unseen(report)), key=lambda each: not each.yes))


def _seen(report: AuditReport) -> tuple[Covered, ...]:
    coverage, inventory = report.coverage, report.inventory
    whole = coverage.headers_read == coverage.shards and coverage.shards > 0
    headers = f"{text.number(coverage.headers_read)} of {text.plural(coverage.shards, 'shard header')}"
    lines = [
        Covered(yes=whole, line=f"all {text.plural(coverage.shards, 'shard header')}" if whole else f"{headers} only")
    ]
    if report.meaning is not None:
        lines.append(Covered(yes=True, line="every tensor held against the others, without a family"))
    elif report.family is not None:
        lines.append(Covered(yes=True, line=f"every tensor that config.json implies, family {report.family}"))
    looked = sum(outcome.outcome in ("passed", "failed") for outcome in report.outcomes)
    if looked:
        lines.append(Covered(yes=True, line=f"{looked:,} of {text.plural(len(report.outcomes), 'rule')} decided"))
    read, payload = coverage.payload_bytes_read, inventory.payload_bytes
    if read:
        share = f"{text.size(read)} of {text.size(payload)} of tensor data ({text.share(read, payload)})"
        lines.append(Covered(yes=True, line=share if read < payload else f"all {text.size(payload)} of tensor data"))
    return tuple(lines)


def _unseen(report: AuditReport) -> tuple[Covered, ...]:
    coverage, inventory = report.coverage, report.inventory
    lines = []
    if coverage.payload_bytes_read == 0:
        extent = f"{text.size(inventory.payload_bytes)} of tensor data: " if inventory.payload_bytes else ""
        lines.append(f"{extent}no statement about values")
    elif coverage.payload_bytes_read < inventory.payload_bytes:
        rest = inventory.payload_bytes - coverage.payload_bytes_read
        lines.append(f"{text.size(rest)} of tensor data not read")
    if report.meaning is not None:
        lines.append("what config.json implies: tensors that are all absent are not missed")
    elif report.family is None:
        lines.append("no family known for this config: names and shapes not judged")
    else:
        lines.append("what no shape shows, such as the order inside a concatenated projection")
    for outcome, words in (("not_applicable", "not applicable"), ("errored", "crashed")):
        count = sum(o.outcome == outcome for o in report.outcomes)
        if count:
            lines.append(f"{text.plural(count, 'rule')} {words}")
    lines.extend(line for line in coverage.unread if line not in report.incomplete)
    return tuple(Covered(yes=False, line=line) for line in lines)
