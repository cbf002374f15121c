"""An audit report as Markdown for a CI step's summary: the verdict first, and never too large to be taken.

Text that others chose stands in code spans alone, where no link, mention, image or HTML comes of it.
"""

import re
from collections.abc import Iterator, Sequence

from auditor_reports.outline import MARKS, SEVERITIES, by_weight, count_unlisted, cut, gates, place, remarks, unmet
from auditor_reports.text import UNVERSIONED, number, percent, plural, share, size
from auditor_reports.text import value as value_text
from auditor_schemas.finding import Finding
from auditor_schemas.report import AuditReport

MOST_BYTES = 900 * 1024  # GitHub takes 1 MiB of a step's summary and drops it whole beyond that
FIRST = 10
ROWS = 100
TEXT = 400
PATTERNS = 5

# A word that is itself anywhere behind a line's first: no markup, link or mention, no reference to an issue or commit.
_PLAIN = re.compile(r"\(?[A-Za-z0-9]+(?:[,.'’\-/×:][A-Za-z0-9]+)*\)?[,.;:)%]{0,2}|[×–—=+]")
_LINKED = re.compile(r"(?i)(?:.*www\..*|.*:/.*|.*\b[a-z]+-[0-9]+\b.*|.*\b[0-9a-f]{7,}\b.*|.*:[a-z0-9]+:.*)")
_BACKTICKS = re.compile("`+")


def render(report: AuditReport) -> str:
    """The summary; where it would be larger than MOST_BYTES, the end says how much was left out."""
    kept: list[str] = []
    room = MOST_BYTES - 200
    sections = [part for section in _sections(report) for part in section]
    for position, part in enumerate(sections):
        room -= len(part.encode()) + 1
        if room < 0:
            left = plural(len(sections) - position, "part")
            kept.append(f"\n**Cut here: {left} left out to stay below 900 KiB. The JSON report has everything.**")
            break
        kept.append(part)
    return "\n".join(kept) + "\n"


def _sections(report: AuditReport) -> Iterator[list[str]]:
    yield _head(report)
    ranked = by_weight(report.findings)
    roots = [each for each in ranked if each.caused_by is None]
    yield _findings([each for each in roots if each.status == "new"], ranked)
    yield _excused([each for each in roots if each.status != "new"])
    yield _listed("Waivers and baseline", remarks(report))
    yield _figures(report)
    yield _listed("Not read", [f"not read: {each}" for each in report.coverage.unread])
    yield _rules(report)


def _head(report: AuditReport) -> list[str]:
    inventory, verdict = report.inventory, report.verdict
    unknown = "none" if report.source.versioned else UNVERSIONED
    lines = [f"# {MARKS[verdict]} auditor: {verdict} · {code(report.source.uri)}", "", _conclusion(report), ""]
    lines += [f"**{plain(report.meaning)}**", ""] if report.meaning is not None else []
    rows = [
        ("Depth", f"{report.run.depth}: {_covered(report)}"),
        (
            "Checkpoint",
            f"{plural(inventory.tensors, 'tensor')} in {plural(inventory.shards, 'shard')}, "
            f"{size(inventory.payload_bytes)} of tensor data",
        ),
        ("Family", code(report.family) if report.family else "none"),
        ("Revision", code(report.source.revision) if report.source.revision else unknown),
        ("Fingerprint", code(report.source.fingerprint) if report.source.fingerprint else "none"),
        ("Made by", f"{code(f'{report.tool.name} {report.tool.version}')} in {max(report.run.duration_s, 0):.1f} s"),
    ]
    return [*lines, "| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)]


def _conclusion(report: AuditReport) -> str:
    gating = [each for each in report.findings if gates(report, each)]
    reasons = [f"- not audited: {plain(each)}" for each in report.incomplete[:5]]
    reasons += [f"- the policy is not met: {plain(each)}" for each in unmet(report)[:5]]
    more = len(report.incomplete) + len(unmet(report)) - len(reasons)
    reasons += [f"- and {number(more)} more"] if more > 0 else []
    if report.verdict == "incomplete":
        also = f" Of what was read, {plural(len(gating), 'finding')} would fail it." if gating else ""
        return "\n".join([f"Something that should have been read was not, so nothing is decided.{also}", *reasons])
    if report.verdict == "failed":
        what = f"{plural(len(gating), 'finding')} at or above {report.fail_on}" if gating else "The policy is not met"
        return "\n".join([f"{what}: do not ship.", *reasons])
    below = "nothing can fail it" if report.fail_on == "never" else f"nothing at or above {report.fail_on}"
    return "\n".join([f"{below[0].upper()}{below[1:]} that is not waived or known.", *reasons])


def _covered(report: AuditReport) -> str:
    read = report.coverage
    headers = f"{number(read.headers_read)} of {plural(read.shards, 'header')} read"
    if read.payload_bytes_read == 0:
        return f"{headers}; tensor data was not read, so nothing is said of values"
    part = share(read.payload_bytes_read, report.inventory.payload_bytes)
    resumed = report.run.resumed_shards
    kept = f"; {plural(resumed, 'shard')} not read again, but told by a state folder" if resumed else ""
    return f"{headers}, {part} of tensor data ({size(read.payload_bytes_read)}){kept}"


def _findings(roots: Sequence[Finding], ranked: Sequence[Finding]) -> list[str]:
    counts = {each: sum(finding.severity == each for finding in roots) for each in SEVERITIES}
    names = dict(zip(SEVERITIES, ("error", "warning", "note"), strict=True))
    summary = ", ".join(plural(count, names[each]) for each, count in counts.items() if count)
    lines = ["", f"## Findings ({summary or 'none'})"]
    consequences: dict[str, dict[str, int]] = {}
    for each in ranked:
        if each.caused_by is not None:
            also = consequences.setdefault(each.caused_by, {})
            also[f"{each.rule} {each.slug}"] = also.get(f"{each.rule} {each.slug}", 0) + each.count
    lines += [_finding(each, consequences.get(each.fingerprint, {})) for each in roots[:FIRST]]
    rest: dict[tuple[str, str, str], list[Finding]] = {}
    for each in roots[FIRST:]:
        rest.setdefault((each.severity.value, each.rule, each.slug), []).append(each)
    if rest:
        lines += ["", f"And {plural(len(roots) - FIRST, 'finding')} more, by rule:", ""]
        lines += ["| severity | rule | findings | subjects | first |", "|---|---|---:|---:|---|"]
        for (severity, rule, slug), alike in list(rest.items())[:ROWS]:
            subjects = number(sum(each.count for each in alike))
            where = code((place(alike[0]) or ["the checkpoint"])[0])
            lines.append(f"| {severity} | {code(f'{rule} {slug}')} | {number(len(alike))} | {subjects} | {where} |")
        if len(rest) > ROWS:
            lines.append(f"\nand {plural(len(rest) - ROWS, 'rule')} more")
    return lines


def _finding(finding: Finding, consequences: dict[str, int]) -> str:
    alike = f" ({number(finding.count)} alike)" if finding.count > 1 else ""
    rule = code(f"{finding.rule} {finding.slug}")
    lines = [f"\n**{finding.severity.value}** {rule}{alike}: {plain(finding.message)}"]
    where = place(finding)
    if where:
        lines.append(f"- at {' · '.join(map(code, where))}")
    if finding.expected is not None or finding.actual is not None:
        expected, actual = code(value_text(finding.expected)), code(value_text(finding.actual))
        lines.append(f"- expected {expected}, actual {actual}")
    affected = [each for each in finding.affected if each not in (finding.location.tensor, finding.location.file)]
    lines += [f"- affects {code(each)}" for each in affected[:PATTERNS]]
    if len(affected) > PATTERNS:
        lines.append(f"- and {plural(len(affected) - PATTERNS, 'pattern')} more")
    lines += [f"- {each}" for each in count_unlisted(finding)]
    uncovered: tuple[str, ...] = finding.uncovered
    lines += [f"- neither waived nor known: {code(each)}" for each in uncovered[:PATTERNS]]
    if len(uncovered) > PATTERNS:
        lines.append(f"- and {plural(len(uncovered) - PATTERNS, 'pattern')} more")
    if consequences:
        named = [f"{code(name)} ({number(count)})" for name, count in list(consequences.items())[:9]]
        more = f" and {plural(len(consequences) - 9, 'rule')} more" if len(consequences) > 9 else ""
        lines.append(f"- hence also {', '.join(named)}{more}")
    return "\n".join(lines)


def _excused(findings: Sequence[Finding]) -> list[str]:
    waived = [each for each in findings if each.status == "waived"]
    known = len(findings) - len(waived)
    lines = ["", f"{plural(known, 'finding')} known from the baseline."] if known else []
    if not waived:
        return lines
    lines += [
        "",
        f"## Waived ({number(len(waived))})",
        "",
        "| rule | at | reason | owner | until |",
        "|---|---|---|---|---|",
    ]
    for each in waived[:ROWS]:
        where = code((place(each) or ["the checkpoint"])[0])
        waiver = each.waiver
        reason, owner, until = (
            ("none", "none", "none")
            if waiver is None
            else (plain(waiver.reason), plain(waiver.owner) if waiver.owner else "none", waiver.expires.isoformat())
        )
        lines.append(f"| {code(f'{each.rule} {each.slug}')} | {where} | {reason} | {owner} | {until} |")
    if len(waived) > ROWS:
        lines.append(f"\nand {number(len(waived) - ROWS)} more")
    return lines


def _figures(report: AuditReport) -> list[str]:
    if not report.figures:
        return []
    lines = ["", "## Figures", "", "| figure | published | exact | off by | counted |", "|---|---:|---:|---:|---|"]
    for figure in report.figures[:ROWS]:
        for row, each in enumerate(figure.counts[:ROWS]):
            name, published = (plain(figure.name), plain(figure.published or "")) if row == 0 else ("", "")
            off = (
                ""
                if each.deviation_percent is None
                else percent(each.deviation_percent).replace(" ", "\N{NO-BREAK SPACE}")
            )
            lines.append(f"| {name} | {published} | {number(each.parameters)} | {off} | {plain(each.convention)} |")
    notes = [each for each in report.figures[:ROWS] if each.verdict == "contradicted" and each.note]
    lines += [f"\nPublished {plain(each.published or each.name)}: {plain(each.note or '')}" for each in notes]
    return lines


def _listed(title: str, sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    lines = ["", f"## {title} ({number(len(sentences))})", "", *(f"- {_sentence(each)}" for each in sentences[:ROWS])]
    return [*lines, f"- and {number(len(sentences) - ROWS)} more"] if len(sentences) > ROWS else lines


def _sentence(text: str) -> str:
    """A sentence whose first word is ours, so that nothing begins a list, a heading or a command."""
    first, _, rest = text.partition(" ")
    return f"{first} {plain(rest)}"


def _rules(report: AuditReport) -> list[str]:
    skipped: dict[str, list[str]] = {}
    for each in report.outcomes:
        if each.outcome == "not_applicable":
            skipped.setdefault(each.reason or "no reason given", []).append(each.rule)
    errored = [each for each in report.outcomes if each.outcome == "errored"]
    ran = len(report.outcomes) - sum(map(len, skipped.values())) - len(errored)
    lines = ["", f"## Rules ({number(ran)} of {number(len(report.outcomes))} ran)"]
    if skipped or errored:
        lines.append("")
    for each in errored[:ROWS]:
        lines.append(f"- **crashed** {code(f'{each.rule} {each.slug}')}: {plain(each.reason or 'no reason given')}")
    for reason, rules in list(skipped.items())[:ROWS]:
        named = f"{', '.join(map(code, rules[:20]))}{' and more' if len(rules) > 20 else ''}"
        lines.append(f"- not applicable, {plain(reason)}: {named}")
    return lines


def code(value: str, most: int = TEXT) -> str:
    """Text that others chose, as a code span: nothing in it is markup, not even in a table's cell."""
    text = cut(value, most).replace("##[", "#\\x23[").replace("|", "\\x7c")
    if not text.strip():
        return "` `"
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def plain(value: str, most: int = 2 * TEXT) -> str:
    """A sentence: its plain words as they are, and all else in it as code spans."""
    parts: list[tuple[bool, list[str]]] = []
    for word in cut(value, most).split(" "):
        is_plain = not word or (_PLAIN.fullmatch(word) is not None and _LINKED.fullmatch(word) is None)
        if not parts or parts[-1][0] != is_plain:
            parts.append((is_plain, []))
        parts[-1][1].append(word)
    return " ".join(" ".join(words) if is_plain else code(" ".join(words), 2 * most) for is_plain, words in parts)
