"""An audit report as JUnit XML: one test case for each rule, and one for the audit itself.

The form is that of the Apache Ant schema, which test viewers have in common.
"""

from datetime import UTC
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from auditor_reports.outline import by_weight, count_unlisted, cut, gates, place, remarks, unmet
from auditor_reports.text import number, plural, shown
from auditor_reports.text import value as value_text
from auditor_schemas.finding import Finding
from auditor_schemas.report import AuditReport, RuleOutcome

SHOWN = 200  # findings of one rule that are written out
REASONS = 1_000
TEXT = 1_000
PATTERNS = 20


class _Result(NamedTuple):
    """What became of one test case: an element's tag, or none where it passed."""

    tag: str | None
    message: str = ""
    kind: str | None = None
    text: str = ""


def render(report: AuditReport) -> str:
    """The XML document. A case fails where a finding gates; what does not gate is in the suite's output."""
    findings: dict[str, list[Finding]] = {}
    for each in by_weight(report.findings):
        findings.setdefault(each.rule, []).append(each)
    rules = [*report.outcomes, *_unlisted(report, findings)]
    results = [(each, _rule_result(report, each, findings.get(each.rule, []))) for each in rules]
    cases = [(f"{each.rule} {each.slug}", f"auditor.{each.rule[:3]}", result) for each, result in results]
    failed = any(result.tag == "failure" for _, result in results)
    root = Element("testsuites")
    _suite(root, report, 0, "auditor rules", cases, _remarks(report))
    _suite(
        root,
        report,
        1,
        "auditor audit",
        [("complete", "auditor.audit", _audit_result(report, failed))],
        _asides(report),
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _unlisted(report: AuditReport, findings: dict[str, list[Finding]]) -> list[RuleOutcome]:
    """Rules that have findings and no outcome, so that no finding is lost."""
    listed = {each.rule for each in report.outcomes}
    return [
        RuleOutcome(
            rule=rule, slug=alike[0].slug, title=alike[0].slug, severity=alike[0].severity, outcome="failed",
            reason=None, examined=0,
        )
        for rule, alike in findings.items()
        if rule not in listed
    ]  # fmt: skip


def _rule_result(report: AuditReport, rule: RuleOutcome, findings: list[Finding]) -> _Result:
    if rule.outcome == "errored":
        reason = cut(rule.reason or "the rule crashed", TEXT)
        return _Result("error", reason, "errored", f"{shown(rule.title)}\n{reason}")
    gating = [each for each in findings if gates(report, each)]
    if gating:
        more = f" (and {plural(len(gating) - 1, 'finding')} more)" if len(gating) > 1 else ""
        return _Result("failure", f"{cut(gating[0].message, TEXT)}{more}", gating[0].severity.value, _listed(findings))
    if rule.outcome == "not_applicable":
        return _Result("skipped", f"not applicable: {cut(rule.reason or 'no reason given', TEXT)}")
    roots = [each for each in findings if each.caused_by is None]
    excused = [each for each in roots if each.status != "new"]
    if excused:  # nothing gates, and something would without its waiver or the baseline
        waived = list(dict.fromkeys(_waived(each) for each in excused))
        more = f"; and {number(len(waived) - 5)} more" if len(waived) > 5 else ""
        return _Result("skipped", "; ".join(waived[:5]) + more, text=_listed(excused))
    return _Result(None)


def _waived(finding: Finding) -> str:
    if finding.status == "known":
        return "known: in the baseline"
    waiver = finding.waiver
    if waiver is None:
        return "waived"
    owner = f" by {cut(waiver.owner, TEXT)}" if waiver.owner else ""
    return f"waived{owner} until {waiver.expires.isoformat()}: {cut(waiver.reason, TEXT)}"


def _audit_result(report: AuditReport, failed: bool) -> _Result:
    """The audit as a case of its own, so that one that read too little is never green."""
    if report.verdict == "incomplete":
        reasons = [cut(each, TEXT) for each in report.incomplete[:REASONS]] or ["the verdict is incomplete"]
        more = len(report.incomplete) - len(reasons)
        text = "\n".join([*reasons, f"and {number(more)} more"] if more > 0 else reasons)
        return _Result("error", reasons[0], "incomplete", text)
    if report.verdict == "failed" and not failed:
        reasons = [cut(each, TEXT) for each in unmet(report)[:REASONS]] or ["the verdict is failed"]
        return _Result("failure", reasons[0], "policy", "\n".join(reasons))
    return _Result(None)


def _listed(findings: list[Finding]) -> str:
    """Findings, written out as far as anybody reads."""
    parts = [_written(each) for each in findings[:SHOWN]]
    if len(findings) > SHOWN:
        parts.append(f"and {plural(len(findings) - SHOWN, 'finding')} more: the JSON report has all")
    return "\n\n".join(parts)


def _written(finding: Finding) -> str:
    status = "" if finding.status == "new" else f" {_waived(finding)}"
    kind = "consequence" if finding.caused_by is not None else finding.severity.value
    alike = f" ({number(finding.count)} alike)" if finding.count > 1 else ""
    where = " · ".join(cut(each, TEXT) for each in place(finding))
    lines = [f"{kind}{alike}{status}: {where}", f"  {cut(finding.message, TEXT)}"]
    if finding.expected is not None or finding.actual is not None:
        lines.append(f"  expected {cut(value_text(finding.expected), TEXT)}")
        lines.append(f"  actual   {cut(value_text(finding.actual), TEXT)}")
    lines += [f"  affects {cut(each, TEXT)}" for each in finding.affected[:PATTERNS]]
    if len(finding.affected) > PATTERNS:
        lines.append(f"  and {plural(len(finding.affected) - PATTERNS, 'pattern')} more")
    lines += [f"  {each}" for each in count_unlisted(finding)]
    return "\n".join(lines)


def _asides(report: AuditReport) -> str:
    """What the gate says besides: waivers that waive nothing, and what the baseline had."""
    return "\n".join(cut(each, TEXT) for each in remarks(report)[:REASONS])


def _remarks(report: AuditReport) -> str:
    """What fails no case: notes, warnings below the gate, and consequences."""
    return _listed([each for each in by_weight(report.findings) if each.status == "new" and not gates(report, each)])


def _suite(
    root: Element, report: AuditReport, number_: int, name: str, cases: list[tuple[str, str, _Result]], out: str
) -> None:
    tags = [result.tag for _, _, result in cases]
    moment = report.run.started_at
    started = (moment if moment.tzinfo is None else moment.astimezone(UTC)).strftime("%Y-%m-%dT%H:%M:%S")
    duration = f"{max(report.run.duration_s, 0) if number_ == 0 else 0:.3f}"
    suite = SubElement(root, "testsuite", {
        "id": str(number_), "name": name, "package": "auditor", "hostname": "localhost", "timestamp": started,
        "time": duration, "tests": str(len(cases)), "failures": str(tags.count("failure")),
        "errors": str(tags.count("error")), "skipped": str(tags.count("skipped")),
    })  # fmt: skip
    properties = SubElement(suite, "properties")
    for key, value in _facts(report):
        SubElement(properties, "property", {"name": key, "value": cut(value, TEXT)})
    for case, classname, result in cases:
        element = SubElement(
            suite, "testcase", {"name": cut(case, 300), "classname": cut(classname, 300), "time": "0.000"}
        )
        if result.tag is not None:
            outcome = SubElement(element, result.tag, {"message": result.message})
            if result.kind is not None:
                outcome.set("type", result.kind)
            outcome.text = result.text
    SubElement(suite, "system-out").text = out
    SubElement(suite, "system-err").text = ""


def _facts(report: AuditReport) -> list[tuple[str, str]]:
    return [
        ("tool", f"{report.tool.name} {report.tool.version}"),
        ("source", report.source.uri),
        ("revision", report.source.revision or ""),
        ("fingerprint", report.source.fingerprint or ""),
        ("depth", report.run.depth),
        ("family", report.family or ""),
        ("fail-on", report.fail_on),
        ("verdict", report.verdict),
    ]
