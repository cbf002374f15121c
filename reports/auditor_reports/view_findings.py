"""Findings as the page lists them: roots in order of weight, each with its consequences, worded once."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from auditor_reports import text
from auditor_schemas.finding import Finding

# What stands in the page without its script; the script shows as many at a time, and reaches all.
ROOTS = 100
CONSEQUENCES = 20
PATTERNS = 60

MARKS = {"error": "✘", "warning": "!", "info": "i"}
SEVERITIES = ("error", "warning", "info")
HEADINGS = {"error": "Errors", "warning": "Warnings", "info": "Worth knowing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingView:
    """One finding, worded and escaped. `cells` are those of the map, by module, its consequences' included.

    `consequences` are the first of them; `more` counts the others.
    """

    anchor: str
    rule: str
    slug: str
    severity: str
    status: str
    message: str
    file: str | None
    tensor: str | None
    field: str | None
    bytes: str | None
    expected: str | None
    actual: str | None
    times: str | None
    patterns: tuple[str, ...]
    affected: str | None
    waiver: str | None
    owner: str | None
    expires: str | None
    cells: tuple[str, ...]
    consequences: tuple["FindingView", ...] = ()
    explains: str | None = None
    more: int = 0

    @property
    def mark(self) -> str:
        """The sign of its severity."""
        return MARKS[self.severity]

    @property
    def subject(self) -> str | None:
        """What the message speaks of; it may begin with its verb."""
        return next((each for each in (self.tensor, self.file, self.field) if each is not None), None)

    @property
    def beside(self) -> tuple[tuple[str, str], ...]:
        """Where the subject is found, label and text, as far as the subject does not say it."""
        file = self.file if self.tensor is not None else None
        field = self.field if self.tensor is not None or self.file is not None else None
        return tuple((name, value) for name, value in (("file", file), ("field", field)) if value is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Root findings of one severity that stand in the page itself."""

    severity: str
    heading: str
    summary: str
    findings: tuple[FindingView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingsView:
    """The findings section: the first roots in groups, and what the filters offer.

    `order` has every root's position in the report, `children` those of what it explains, `anchors` each one's link.
    """

    order: tuple[int, ...]
    children: dict[int, list[int]]
    anchors: list[str]
    groups: tuple[Group, ...]
    top: tuple[FindingView, ...]
    summary: str
    blank: FindingView
    roots: dict[str, int]
    severities: tuple[tuple[str, str], ...]
    consequences: int
    rules: tuple[tuple[str, str, str], ...]
    statuses: tuple[tuple[str, str], ...]
    beyond: str | None


def findings(every: tuple[Finding, ...]) -> FindingsView:
    """Roots by severity, new ones first, then by how much fails with them; what a root explains stands beneath it."""
    children, roots = _families(every)
    order = {severity: i for i, severity in enumerate(SEVERITIES)}

    def weight(root: int) -> int:
        return every[root].count + sum(every[i].count for i in children.get(root, ()))

    ranked = sorted(roots, key=lambda i: (order[every[i].severity], every[i].status != "new", -weight(i), i))
    anchors = _anchors(every)
    kept = tuple(_family(every, root, children.get(root, ()), anchors) for root in ranked[:ROOTS])
    counts = Counter(every[i].severity.value for i in roots)
    groups = tuple(
        Group(
            severity=severity,
            heading=HEADINGS[severity],
            summary=text.plural(counts[severity], "finding"),
            findings=tuple(view for view in kept if view.severity == severity),
        )
        for severity in SEVERITIES
        if any(view.severity == severity for view in kept)
    )
    rules = Counter((each.rule, each.slug) for each in every)
    statuses = Counter(each.status for each in every)
    return FindingsView(
        order=tuple(ranked),
        children=children,
        anchors=anchors,
        groups=groups,
        top=kept[:3],
        summary=_summary(len(roots), len(every) - len(roots)),
        blank=_BLANK,
        roots={severity: counts[severity] for severity in SEVERITIES},
        severities=tuple((severity, text.number(counts[severity])) for severity in SEVERITIES if counts[severity]),
        consequences=len(every) - len(roots),
        rules=tuple((rule, slug, text.number(n)) for (rule, slug), n in sorted(rules.items())),
        statuses=tuple((status, text.number(statuses[status])) for status in sorted(statuses)),
        beyond=text.plural(len(roots) - len(kept), "finding") if len(roots) > len(kept) else None,
    )


def _summary(roots: int, consequences: int) -> str:
    if not roots:
        return ""
    explained = f", which explain {consequences:,} more" if consequences else ""
    return f"{text.plural(roots, 'root cause')}{explained}"


# What the page's script fills: no part is absent.
_BLANK = FindingView(
    anchor="", rule="", slug="", severity="info", status="new", message="", file="", tensor="", field="", bytes="",
    expected="", actual="", times="", patterns=(), affected="", waiver="", owner="", expires="", cells=(),
    explains="",
)  # fmt: skip


def _families(every: tuple[Finding, ...]) -> tuple[dict[int, list[int]], list[int]]:
    """Each root with all it explains, at whatever remove. Whoever names no cause in the report is a root."""
    by_fingerprint: dict[str, int] = {}
    for index, finding in enumerate(every):
        by_fingerprint.setdefault(finding.fingerprint, index)
    cause = [by_fingerprint.get(f.caused_by) if f.caused_by is not None else None for f in every]
    tops: dict[int, int | None] = {}  # the root above; None in or above a circle, which explains nothing
    roots: list[int] = []
    children: dict[int, list[int]] = {}
    for index in range(len(every)):
        path, at = [], index
        while at not in tops:
            above = cause[at]
            tops[at] = at if above is None else None  # None until the way up is known
            path.append(at)
            if above is None:
                break
            at = above
        for each in path:
            tops[each] = tops[at]
        top = tops[index]
        if top is None or top == index:
            roots.append(index)
        else:
            children.setdefault(top, []).append(index)
    return children, roots


def _family(every: tuple[Finding, ...], root: int, below: Sequence[int], anchors: list[str]) -> FindingView:
    view = _word(every[root], anchors[root])
    if not below:
        return view
    return replace(
        view,
        consequences=tuple(_word(every[i], anchors[i]) for i in below[:CONSEQUENCES]),
        explains=text.plural(len(below), "finding"),
        more=len(below) - CONSEQUENCES,
        cells=tuple(dict.fromkeys(each for i in (root, *below) for each in every[i].cells.split(";"))),
    )


def _word(finding: Finding, anchor: str) -> FindingView:
    location, waiver = finding.location, finding.waiver
    compared = finding.expected is not None or finding.actual is not None
    affected = finding.affected
    return FindingView(
        anchor=anchor,
        rule=text.shown(finding.rule),
        slug=text.shown(finding.slug),
        severity=finding.severity.value,
        status=finding.status,
        message=text.shown(finding.message),
        file=_shown(location.file),
        tensor=_shown(location.tensor),
        field=_shown(location.field),
        bytes=byte_range(location.bytes),
        expected=text.shown(text.value(finding.expected)) if compared else None,
        actual=text.shown(text.value(finding.actual)) if compared else None,
        times=text.plural(finding.count, "time") if finding.count > 1 else None,
        patterns=tuple(map(text.shown, affected)),
        affected=_extent(finding) if affected else None,
        waiver=_shown(waiver.reason) if waiver else None,
        owner=_shown(waiver.owner) if waiver else None,
        expires=waiver.expires.isoformat() if waiver else None,
        cells=tuple(finding.cells.split(";")),
    )


def _extent(finding: Finding) -> str:
    more = f", and {text.number(finding.more)} more that no report lists" if finding.more else ""
    return text.plural(len(finding.affected), "pattern") + more


def _shown(value: str | None) -> str | None:
    return None if value is None else text.shown(value)


def byte_range(span: tuple[int, int] | None) -> str | None:
    """A half-open byte range in words."""
    if span is None:
        return None
    begin, end = span
    return f"{begin:,} to {end:,} ({end - begin:,} B)"


_UNLINKABLE = re.compile("[^0-9A-Za-z]")


def _anchors(every: tuple[Finding, ...]) -> list[str]:
    """What a link to each finding says: the beginning of its fingerprint, numbered where several begin alike."""
    taken: dict[str, int] = {}
    anchors = []
    for finding in every:
        stem = f"finding-{_UNLINKABLE.sub('', finding.fingerprint[:12])}"
        taken[stem] = again = taken.get(stem, 0) + 1
        anchors.append(stem if again == 1 else f"{stem}-{again}")
    return anchors
