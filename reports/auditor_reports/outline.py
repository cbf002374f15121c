"""What every machine format says of findings alike: which gate, which matter most, and where each one stands."""

import re
from collections.abc import Iterable

from auditor_reports.text import number, shown
from auditor_schemas.finding import Finding
from auditor_schemas.report import AuditReport
from auditor_schemas.rule import Severity

SEVERITIES = (Severity.ERROR, Severity.WARNING, Severity.INFO)
MARKS = {"passed": "✔", "failed": "✘", "incomplete": "◐"}

_GATES = {"error": SEVERITIES[:1], "warning": SEVERITIES[:2], "never": ()}
_WAIVES_NOTHING = {
    "expired": "expired on {expires}",
    "unused": "matches no finding",
    "partial": "covers only a part of each finding it matches",
    "not_run": "its rule did not run",
}
_LAYERS = re.compile(r"model\.layers\.(?:([0-9]{1,9})|\{([0-9]{1,9})-([0-9]{1,9})\})\.")


def gates(report: AuditReport, finding: Finding) -> bool:
    """Whether this finding alone makes the audit fail."""
    return finding.severity in _GATES[report.fail_on] and finding.status == "new" and finding.caused_by is None


def by_weight(findings: Iterable[Finding]) -> list[Finding]:
    """Roots before consequences, new before known and waived, errors before warnings; else in the report's order."""
    status = {"new": 0, "known": 1, "waived": 2}
    return sorted(
        findings, key=lambda each: (each.caused_by is not None, status[each.status], SEVERITIES.index(each.severity))
    )


def unmet(report: AuditReport) -> tuple[str, ...]:
    """What the policy required of the audit and did not get."""
    return report.unmet


def remarks(report: AuditReport) -> list[str]:
    """What else the gate has to say, a sentence each: waivers that waive nothing, and what the baseline had."""
    said = []
    for use in report.waivers:
        if use.state not in _WAIVES_NOTHING:
            continue
        globs = [f"{kind} {glob}" for kind in ("tensor", "file", "field") if (glob := getattr(use, kind))]
        why = _WAIVES_NOTHING[use.state].format(expires=use.expires.isoformat())
        said.append(f"waiver of {' '.join([use.rule, use.slug, *globs])}: {why} ({use.reason})")
    for each in report.gone:
        part = f"{number(each.count)} of {number(each.of)} " if each.of > 1 else ""
        said.append(f"{part}gone since the baseline: {each.rule} {each.slug}: {each.message}")
    return said


def place(finding: Finding) -> list[str]:
    """Where the finding stands, from the file inwards, as it may be shown."""
    at = finding.location
    parts = [shown(each) for each in (at.file, at.tensor, at.field) if each]
    if at.bytes is not None:
        parts.append(f"bytes {number(at.bytes[0])} to {number(at.bytes[1])}")
    return parts


def count_unlisted(finding: Finding) -> list[str]:
    """That there is more than the report lists, as a sentence, or nothing."""
    return [f"and {number(finding.more)} more that no report lists"] if finding.more else []


def layers(finding: Finding) -> tuple[int, int] | None:
    """The first and the last layer of what a finding about tensors affects; None outside the layers."""
    if finding.location.tensor is None:
        return None
    ends = [
        int(end)
        for pattern in finding.patterns or (finding.location.tensor,)
        if (found := _LAYERS.match(pattern)) is not None
        for end in found.groups()
        if end is not None
    ]
    return (min(ends), max(ends)) if ends else None


def layers_named(span: tuple[int, int] | None) -> str:
    """'layer 3', 'layers 3 to 61', or '' outside the layers."""
    if span is None:
        return ""
    return f"layer {span[0]}" if span[0] == span[1] else f"layers {span[0]} to {span[1]}"


def cut(value: str, most: int) -> str:
    """`value` as it may be shown, in at most some `most` characters, the cut in sight."""
    if len(value) > most:
        return f"{shown(value[:most])}… ({number(len(value))} characters)"
    return shown(value)
