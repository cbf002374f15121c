"""An audit report as SARIF 2.1.0, within what GitHub takes for code scanning.

One result is one rule in one group of layers. GitHub refuses files beyond 25,000 results, 1,000 locations of one
result or 10 MB compressed, and shows 5,000 results and 100 locations: what is shown is what is written, and each
message says how much more there is. https://docs.github.com/code-security/code-scanning
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote

from auditor_reports.outline import by_weight, cut, layers, layers_named, remarks, unmet
from auditor_reports.text import number, plural, shown
from auditor_reports.text import value as value_text
from auditor_schemas.finding import Finding, Waiver
from auditor_schemas.report import AuditReport, RuleOutcome
from auditor_schemas.rule import Severity

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
RESULTS = 5_000
LOCATIONS = 100
ROOM = 4 << 20  # bytes of results before they get terse, so that the file stays below 10 MB even uncompressed
TEXT = 600
TERSE = 160
DESCRIPTION = 1_024
URI = 512
NOTIFICATIONS = 200
NAME = 200
BASE = "CHECKPOINT"

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_PROBLEM = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "recommendation"}
_EXIT_CODES = {"passed": 0, "failed": 1, "incomplete": 3}
_FAMILIES = {
    "CFG": "config", "FIL": "files", "IDX": "index", "HDR": "header", "NAM": "names", "SHP": "shape",
    "QNT": "quantisation", "MTP": "mtp", "CNT": "counts", "VAL": "values",
}  # fmt: skip


class _Group(NamedTuple):
    """What one result stands for."""

    rule: str
    severity: Severity
    consequence: bool
    status: str
    waiver: Waiver | None
    layers: tuple[int, int] | None


def render(report: AuditReport, pages: Mapping[str, str] | None = None) -> str:
    """The SARIF document. `pages` holds rules' help in Markdown, by rule id."""
    rules = _rules(report, pages or {})
    index = {rule["id"]: position for position, rule in enumerate(rules)}
    groups = _group(report)
    document = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": shown(report.tool.name),
                        "version": shown(report.tool.version),
                        "semanticVersion": shown(report.tool.version),
                        "rules": rules,
                    }
                },
                "automationDetails": {"id": f"auditor/{quote(shown(report.source.uri)[:NAME], safe='')}/"},
                "originalUriBaseIds": {BASE: {"description": {"text": "The folder of the checkpoint."}}},
                "invocations": [_invocation(report, index, max(len(groups) - RESULTS, 0))],
                "results": _results(report, groups, index),
                "properties": _properties(report),
            }
        ],
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def uri(path: str) -> str:
    """A file of the checkpoint as a relative URI reference, percent-encoded; one that would leave stays one segment."""
    data = path.encode("utf-8", "surrogatepass")
    parts = path.split("/")
    inside = not path.startswith("/") and all(part not in ("", ".", "..") for part in parts)
    # What would leave is encoded twice: readers that decode before they resolve get one segment all the same.
    encoded = quote(data) if inside else quote(quote(data, safe=""), safe="")
    if len(encoded) > URI:
        return f"long-name-{hashlib.sha256(data).hexdigest()}"
    return encoded if encoded not in ("", ".", "..") else "unnamed"


def _rules(report: AuditReport, pages: Mapping[str, str]) -> list[dict[str, Any]]:
    known = {each.rule: each for each in report.outcomes}
    for each in report.findings:
        if each.rule not in known:  # a finding whose rule the report does not list has its own words alone
            known[each.rule] = RuleOutcome(
                rule=each.rule, slug=each.slug, title=each.slug, severity=each.severity, outcome="failed", reason=None,
                examined=0,
            )  # fmt: skip
    return [_rule(each, pages.get(each.rule)) for each in known.values()]


def _rule(rule: RuleOutcome, page: str | None) -> dict[str, Any]:
    title = cut(rule.title, DESCRIPTION - 64) or shown(rule.rule)
    text = page or f"{shown(rule.rule)} {shown(rule.slug)}: {title}"
    return {
        "id": shown(rule.rule),
        "name": cut(rule.slug, 200),
        "shortDescription": {"text": title},
        "fullDescription": {"text": f"{title}. Severity {rule.severity.value}."},
        "help": {"text": text, "markdown": page} if page else {"text": text},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {
            "tags": ["checkpoint", _FAMILIES.get(rule.rule[:3], "other")],
            "precision": "very-high",
            "problem.severity": _PROBLEM[rule.severity],
        },
    }


def _group(report: AuditReport) -> dict[_Group, list[Finding]]:
    """Findings by what one result stands for, those that matter most first; by rule alone where layers are too many."""
    for by_layer in (True, False):
        groups: dict[_Group, list[Finding]] = {}
        for each in by_weight(report.findings):
            group = _Group(
                rule=each.rule,
                severity=each.severity,
                consequence=each.caused_by is not None,
                status=each.status,
                waiver=each.waiver if each.status == "waived" else None,
                layers=layers(each) if by_layer else None,
            )
            groups.setdefault(group, []).append(each)
        if len(groups) <= RESULTS:
            break
    return groups


def _results(
    report: AuditReport, groups: dict[_Group, list[Finding]], index: Mapping[str, int]
) -> list[dict[str, Any]]:
    compared = report.baseline is not None or any(group.status == "known" for group in groups)
    suppressing = any(group.status != "new" for group in groups)
    left = ROOM
    results = []
    for group, findings in list(groups.items())[:RESULTS]:
        most = TEXT if left > 0 else TERSE
        places = _locations(findings, left, most)
        result: dict[str, Any] = {
            "ruleId": shown(group.rule),
            "ruleIndex": index[shown(group.rule)],
            "level": _LEVELS[group.severity],
            "message": {"text": _message(group, findings, len(places), most)},
            "locations": places,
            "partialFingerprints": _fingerprints(findings),
            "occurrenceCount": max(sum(each.count for each in findings), 1),
            "properties": _details(group, findings, most),
        }
        if compared:
            result["baselineState"] = "unchanged" if group.status == "known" else "new"
        if suppressing:  # for all results or for none, as the standard wants it
            result["suppressions"] = _suppressions(report, group)
        left -= _size(result)
        results.append(result)
    return results


def _message(group: _Group, findings: Sequence[Finding], places: int, most: int) -> str:
    first = findings[0]
    subjects = sum(each.count for each in findings)
    where = layers_named(group.layers)
    text = cut(first.message, most)
    subject = next((cut(each, most) for each in (first.location.tensor, first.location.file) if each), None)
    if subject is not None and subject not in text:
        text = f"{subject}: {text}"
    if len(findings) == 1:
        more = [f"{number(subjects)} alike"] if subjects > 1 else []
        more += [where] if where and subjects > 1 else []
    else:
        more = [f"the first of {plural(len(findings), 'finding')} about {plural(subjects, 'subject')}"]
        more += [f"in {where}"] if where else []
    if len(findings) > places:
        more.append(f"{plural(len(findings) - places, 'location')} left out here")
    if group.consequence:
        more.append("follows from another finding")
    return _plain_message(f"{text} [{', '.join(more)}]" if more else text) or "no message"


def _plain_message(text: str) -> str:
    """`text` with nothing in it that SARIF viewers take for a placeholder or a link."""
    return text.replace("](", "]\\x28").replace("{", "{{").replace("}", "}}")


def _locations(findings: Sequence[Finding], left: int, most: int) -> list[dict[str, Any]]:
    """The first locations; one at least, whatever is left of the room."""
    places: list[dict[str, Any]] = []
    for each in findings[:LOCATIONS]:
        place = _location(each, most)
        left -= _size(place)
        if places and left < 0:
            break
        places.append(place)
    return places


def _size(part: dict[str, Any]) -> int:
    return len(json.dumps(part, ensure_ascii=False).encode())


def _location(finding: Finding, most: int) -> dict[str, Any]:
    at = finding.location
    # A finding about what should be there and is not has no file: the expectation comes from config.json.
    physical: dict[str, Any] = {"artifactLocation": {"uri": uri(at.file or "config.json"), "uriBaseId": BASE}}
    if at.bytes is not None and 0 <= at.bytes[0] <= at.bytes[1]:
        physical["region"] = {"byteOffset": at.bytes[0], "byteLength": at.bytes[1] - at.bytes[0]}
    place: dict[str, Any] = {"physicalLocation": physical}
    logical = [
        {"fullyQualifiedName": cut(name, most), "kind": kind}
        for name, kind in ((at.tensor, "tensor"), (at.field, "field"))
        if name
    ]
    if logical:
        place["logicalLocations"] = logical
    return place


def _fingerprints(findings: Sequence[Finding]) -> dict[str, str]:
    """The finding's own, or one of all members: a new member makes a new alert, which an old dismissal misses.

    `primaryLocationLineHash` is the one that GitHub looks at.
    """
    own = sorted(shown(each.fingerprint) for each in findings)
    one = own[0] if len(own) == 1 else hashlib.sha256("\n".join(own).encode()).hexdigest()
    return {"auditorFinding/v1": one, "primaryLocationLineHash": f"{one}:1"}


def _details(group: _Group, findings: Sequence[Finding], most: int) -> dict[str, Any]:
    first = findings[0]
    details: dict[str, Any] = {"findings": len(findings), "layers": layers_named(group.layers) or None}
    if len(findings) == 1:
        details["expected"] = cut(value_text(first.expected), most) if first.expected is not None else None
        details["actual"] = cut(value_text(first.actual), most) if first.actual is not None else None
        details["affected"] = [cut(each, most) for each in first.affected[:4]] if most == TEXT else []
        details["affectedPatterns"] = len(first.affected)
        details["unlisted"] = first.more or None
        details["causedBy"] = shown(first.caused_by) if first.caused_by else None
    return {key: value for key, value in details.items() if value not in (None, [])}


def _suppressions(report: AuditReport, group: _Group) -> list[dict[str, Any]]:
    if group.status == "known":
        baseline = f" {report.baseline.sha256}" if report.baseline is not None else ""
        return [{"kind": "external", "status": "accepted", "justification": f"known: in the baseline{shown(baseline)}"}]
    if group.status != "waived":
        return []
    suppression: dict[str, Any] = {"kind": "external", "status": "accepted"}
    if group.waiver is not None:
        suppression["justification"] = cut(group.waiver.reason, TEXT)
        suppression["properties"] = {"expires": group.waiver.expires.isoformat()}
        if group.waiver.owner is not None:
            suppression["properties"]["owner"] = cut(group.waiver.owner, TEXT)
    return [suppression]


def _invocation(report: AuditReport, index: Mapping[str, int], results_left_out: int) -> dict[str, Any]:
    crashed = [each for each in report.outcomes if each.outcome == "errored"]
    notifications: list[dict[str, Any]] = [
        {
            "level": "error",
            "message": {"text": _plain_message(f"{shown(each.rule)} crashed: {cut(each.reason or 'no reason', TEXT)}")},
            "associatedRule": {"id": shown(each.rule), "index": index[shown(each.rule)]},
        }
        for each in crashed
    ]
    prefixes = tuple(f"{each.rule} {each.slug} crashed" for each in crashed)
    unread = [each for each in report.incomplete if not (prefixes and each.startswith(prefixes))]
    texts = [(f"not audited: {cut(each, TEXT)}", "error") for each in unread]
    texts += [(f"the policy is not met: {cut(each, TEXT)}", "error") for each in unmet(report)]
    texts += [(cut(each, TEXT), "warning") for each in remarks(report)]
    if results_left_out:
        texts.append((f"{plural(results_left_out, 'result')} left out: the report has all", "warning"))
    notifications += [{"level": level, "message": {"text": _plain_message(text)}} for text, level in texts]
    if len(notifications) > NOTIFICATIONS:
        more = f"{number(len(notifications) - NOTIFICATIONS)} more are in the report"
        notifications = [*notifications[:NOTIFICATIONS], {"level": "error", "message": {"text": more}}]
    return {
        "executionSuccessful": report.verdict != "incomplete",
        "exitCode": _EXIT_CODES[report.verdict],
        "exitCodeDescription": report.verdict,
        "startTimeUtc": _utc(report.run.started_at),
        "endTimeUtc": _utc(report.run.started_at + timedelta(seconds=max(report.run.duration_s, 0))),
        "toolExecutionNotifications": notifications,
    }


def _properties(report: AuditReport) -> dict[str, Any]:
    read, inventory = report.coverage, report.inventory
    return {
        "verdict": report.verdict,
        "depth": report.run.depth,
        "source": shown(report.source.uri),
        "revision": shown(report.source.revision) if report.source.revision else None,
        "fingerprint": shown(report.source.fingerprint) if report.source.fingerprint else None,
        "family": shown(report.family) if report.family else None,
        "failOn": report.fail_on,
        "findings": len(report.findings),
        "tensors": inventory.tensors,
        "shards": inventory.shards,
        "headersRead": read.headers_read,
        "payloadBytes": inventory.payload_bytes,
        "payloadBytesRead": read.payload_bytes_read,
    }


def _utc(moment: datetime) -> str:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
