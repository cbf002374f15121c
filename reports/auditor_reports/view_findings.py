"""Findings as the page lists them: roots in order of weight, each with its consequences, within the page's room."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from auditor_reports import text
from auditor_schemas.report import Finding

# What one page shows in full; the JSON inside it stays complete.
FINDINGS = 2_000
PATTERNS = 20_000

MARKS = {"error": "✘", "warning": "!", "info": "i"}
SEVERITIES = ("error", "warning", "info")
HEADINGS = {"error": "Errors", "warning": "Warnings", "info": "Worth knowing"}

_LAYER = re.compile(r"model\.layers\.(?:([0-9]{1,9})|\{([0-9]{1,9})-([0-9]{1,9})\})\.(.*)", re.DOTALL)
# Which cell of the map a name belongs to, by how the name goes on; the first that fits.
_MODULES = (
    ("indexer", ("self_attn.indexer.",)),
    ("attention", ("self_attn.",)),
    ("experts", ("mlp.experts.",)),
    ("shared_experts", ("mlp.shared_experts.",)),
    ("router", ("mlp.gate.",)),
    ("dense_mlp", ("mlp.gate_proj.", "mlp.up_proj.", "mlp.down_proj.")),
    ("norms", ("input_layernorm.", "post_attention_layernorm.")),
    ("mtp", ("embed_tokens.", "enorm.", "hnorm.", "eh_proj.", "shared_head.")),
)
_OUTSIDE = {"embedding": "model.embed_tokens.", "norms": "model.norm.", "head": "lm_head."}

# What stands for nothing that the config implies.
OTHER = "other"

Range = tuple[int, int]
Touched = dict[str, tuple[Range | None, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingView:
    """One finding, worded.

    `touches` has the map's cells, ranges of layers by module, None outside the layers; `more` counts the patterns
    that only the JSON holds.
    """

    anchor: str
    rule: str
    slug: str
    severity: str
    mark: str
    message: str
    place: tuple[tuple[str, str], ...]
    compared: bool
    expected: str
    actual: str
    times: str
    repeated: bool
    patterns: tuple[str, ...]
    affected: str
    more: str | None
    status: str
    waiver: str | None
    touches: Touched
    consequences: tuple["FindingView", ...] = ()
    explains: str = ""

    @property
    def cells(self) -> str:
        """The cells for the page's filter: 'experts:3-60,61-61;norms:top', where top stands outside the layers."""
        return ";".join(
            f"{module}:{','.join(f'{r[0]}-{r[1]}' if r else 'top' for r in ranges)}"
            for module, ranges in self.touches.items()
        )

    @property
    def headline(self) -> str:
        """The finding in one line, for where only a line fits."""
        place = dict(self.place)
        where = place.get("tensor") or place.get("file") or place.get("field")
        return self.message if where is None or where in self.message else f"{where}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The root findings of one severity."""

    severity: str
    heading: str
    summary: str
    findings: tuple[FindingView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingsView:
    """The findings section. `hidden` counts by rule what only the JSON holds."""

    groups: tuple[Group, ...]
    top: tuple[FindingView, ...]
    roots: dict[str, int]
    consequences: int
    hidden: tuple[tuple[str, str, str], ...]
    hidden_summary: str


def findings(every: tuple[Finding, ...]) -> FindingsView:
    """Roots by severity, new ones first, then by how much fails with them; what a root explains stands beneath it."""
    children, roots = _families(every)
    order = {severity: i for i, severity in enumerate(SEVERITIES)}

    def weight(root: int) -> int:
        return every[root].count + sum(every[i].count for i in children.get(root, ()))

    ranked = sorted(roots, key=lambda i: (order[every[i].severity], every[i].status != "new", -weight(i), i))
    views: dict[str, list[FindingView]] = {severity: [] for severity in SEVERITIES}
    left, room, taken, hidden = FINDINGS, PATTERNS, set[str](), Counter[tuple[str, str]]()
    for index in ranked:
        members = (index, *children.get(index, ()))
        if left < len(members):
            members, dropped = members[:left], members[left:]
            hidden.update((every[i].rule, every[i].slug) for i in dropped)
        if not members:
            continue
        left -= len(members)
        worded = []
        for member in members:
            view = _worded(every[member], room=room, taken=taken)
            room -= len(view.patterns)
            worded.append(view)
        root = replace(
            worded[0],
            consequences=tuple(worded[1:]),
            explains=text.plural(len(worded) - 1, "finding"),
            touches=_joined(view.touches for view in worded),
        )
        views[root.severity].append(root)
    counts = Counter(str(every[i].severity) for i in roots)
    groups = tuple(
        Group(
            severity=severity,
            heading=HEADINGS[severity],
            summary=text.plural(counts[severity], "finding"),
            findings=tuple(views[severity]),
        )
        for severity in SEVERITIES
        if views[severity]
    )
    return FindingsView(
        groups=groups,
        top=tuple(view for severity in SEVERITIES for view in views[severity])[:3],
        roots={severity: counts[severity] for severity in SEVERITIES},
        consequences=len(every) - len(roots),
        hidden=tuple((rule, slug, text.number(n)) for (rule, slug), n in sorted(hidden.items())),
        hidden_summary=f"{text.plural(hidden.total(), 'finding')}, the lightest",
    )


def _families(every: tuple[Finding, ...]) -> tuple[dict[int, list[int]], list[int]]:
    """Each root with all it explains, at whatever remove. Whoever names no cause in the report is a root."""
    by_fingerprint: dict[str, int] = {}
    for index, finding in enumerate(every):
        by_fingerprint.setdefault(finding.fingerprint, index)
    cause = [by_fingerprint.get(f.caused_by) if f.caused_by is not None else None for f in every]
    roots: list[int] = []
    children: dict[int, list[int]] = {}
    for index in range(len(every)):
        seen, top = {index}, index
        while (above := cause[top]) is not None and above not in seen:
            seen.add(above)
            top = above
        if cause[top] is not None or top == index:  # a circle of causes explains nothing
            roots.append(index)
        else:
            children.setdefault(top, []).append(index)
    return children, roots


def _worded(finding: Finding, *, room: int, taken: set[str]) -> FindingView:
    place = []
    location = finding.location
    for label, content in (("file", location.file), ("tensor", location.tensor), ("field", location.field)):
        if content is not None:
            place.append((label, content))
    if location.bytes is not None:
        begin, end = location.bytes
        place.append(("bytes", f"[{begin:,}, {end:,}), {text.size(end - begin)}" if end >= begin else f"{begin:,}"))
    waiver = None
    if finding.waiver is not None:
        owner = f", {finding.waiver.owner}" if finding.waiver.owner else ""
        waiver = f"waived until {finding.waiver.expires.isoformat()}{owner}: {finding.waiver.reason}"
    patterns = finding.affected[: max(room, 0)]
    hidden = len(finding.affected) - len(patterns)
    return FindingView(
        anchor=_anchor(finding.fingerprint, taken),
        rule=finding.rule,
        slug=finding.slug,
        severity=finding.severity,
        mark=MARKS[finding.severity],
        message=finding.message,
        place=tuple(place),
        compared=finding.expected is not None or finding.actual is not None,
        expected=text.value(finding.expected),
        actual=text.value(finding.actual),
        times=text.plural(finding.count, "time"),
        repeated=finding.count > 1,
        patterns=patterns,
        affected=text.plural(len(finding.affected), "pattern") if finding.affected else "",
        more=f"{text.number(hidden)} more in the JSON" if hidden else None,
        status=finding.status,
        waiver=waiver,
        touches=_touched(finding),
    )


def _anchor(fingerprint: str, taken: set[str]) -> str:
    stem = f"finding-{re.sub('[^0-9A-Za-z]', '', fingerprint[:12])}"
    anchor, again = stem, 1
    while anchor in taken:
        again += 1
        anchor = f"{stem}-{again}"
    taken.add(anchor)
    return anchor


def _touched(finding: Finding) -> Touched:
    names = finding.affected or ((finding.location.tensor,) if finding.location.tensor else ())
    cells: dict[str, set[Range | None]] = {}
    for name in names[:PATTERNS]:
        if name.endswith((".safetensors", ".json")):
            continue
        inside = _LAYER.fullmatch(name)
        if inside is None:
            module = next((m for m, prefix in _OUTSIDE.items() if name.startswith(prefix)), OTHER)
            cells.setdefault(module, set()).add(None)
            continue
        begin, end = (int(inside[1]), int(inside[1])) if inside[1] else (int(inside[2]), int(inside[3]))
        module = next((m for m, prefixes in _MODULES if inside[4].startswith(prefixes)), OTHER)
        cells.setdefault(module, set()).add((begin, end))
    return {module: tuple(sorted(ranges, key=lambda r: r or (-1, -1))) for module, ranges in cells.items()}


def _joined(every: Iterable[Touched]) -> Touched:
    cells: dict[str, set[Range | None]] = {}
    for touches in every:
        for module, ranges in touches.items():
            cells.setdefault(module, set()).update(ranges)
    return {module: tuple(sorted(ranges, key=lambda r: r or (-1, -1))) for module, ranges in cells.items()}


def flat(view: FindingsView) -> Iterator[FindingView]:
    """The roots on the page, heaviest first."""
    for group in view.groups:
        yield from group.findings
