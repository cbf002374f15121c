"""What a person sees: the verdict first, findings folded, figures, and what was read and what was not.

Rich is imported when a whole report is printed; the verdict line does without.
Text from a checkpoint is escaped before it is shown.
"""

import sys
from typing import TYPE_CHECKING, Any

from auditor.text import listed, plural, share, shown, size

if TYPE_CHECKING:
    from rich.console import Console

    from auditor_schemas.figures import Figure
    from auditor_schemas.finding import Finding, Waiver, WaiverUse
    from auditor_schemas.report import AuditReport

_MARK = {"passed": "✔", "failed": "✘", "incomplete": "◐"}
_COLOUR = {
    "passed": "green",
    "failed": "red",
    "incomplete": "yellow",
    "error": "red",
    "warning": "yellow",
    "info": "cyan",
}
_FIGURE = {"exact": "exact", "matches_rounded": "rounds", "contradicted": "differs", "not_applicable": ""}
_PATTERNS = 4
_EXCUSED = 20
_FOLDED = 8  # findings of one rule shown in full before the rest fold


def verdict_line(report: "AuditReport") -> str:
    """The verdict in one line, for people and logs."""
    roots = [finding for finding in report.findings if finding.caused_by is None]
    fresh = [finding for finding in roots if finding.status == "new"]
    counts = {severity: sum(f.severity == severity for f in fresh) for severity in ("error", "warning", "info")}
    inventory = report.inventory
    what = f"{plural(inventory.tensors, 'tensor')} in {plural(inventory.shards, 'shard')}"
    found = listed(
        [
            f"{counts[each]} {each}{'' if counts[each] == 1 or each == 'info' else 's'}"
            for each in counts
            if counts[each]
        ]
    )
    excused = "".join(
        f"; {sum(f.status == status for f in roots):,} {status}"
        for status in ("known", "waived")
        if any(f.status == status for f in roots)
    )
    excused += f"; {shown(listed(report.unmet, most=1))}" if report.unmet else ""
    ended = [use for use in report.waivers if use.state == "expired" and use.findings]
    excused += f"; {plural(len(ended), 'waiver')} expired" if ended else ""
    unused = sum(use.state == "unused" for use in report.waivers)
    excused += f"; {plural(unused, 'waiver')} unused" if unused else ""
    reasons = f"; not audited: {shown(listed(report.incomplete, most=1))}" if report.incomplete else ""
    mark = _printable(_MARK[report.verdict] + " ")
    return shown(
        f"{mark}{report.verdict} at depth {_depth(report)}{_meaning(report)}: {report.source.uri}: {what}, "
        f"{size(inventory.payload_bytes)}; {found or ('no findings' if not roots else 'nothing new')}{excused}{reasons}"
    )


def _meaning(report: "AuditReport") -> str:
    """What the verdict says where it says less than a family's."""
    return "" if report.meaning is None else f" ({report.meaning})"


def _depth(report: "AuditReport") -> str:
    """The depth; of a sample also its share, so that a pass never reads as if everything had been looked at."""
    if report.run.depth != "sample":
        return str(report.run.depth)
    return f"sample, {share(report.coverage.payload_bytes_read, report.inventory.payload_bytes)} of bytes"


# Why rules could not look, where config.json or the index is not there or was not read.
_UNREAD = {
    "config.json": {"config.json is missing", "config.json was not read"},
    "index": {"the checkpoint has no index", "the index was not read"},
}


def _documents_read(report: "AuditReport") -> list[str]:
    reasons = {each.reason for each in report.outcomes}
    return [name for name, unread in _UNREAD.items() if reasons.isdisjoint(unread)]


def _content_read(report: "AuditReport", no_gpu: str) -> str:
    coverage, depth = report.coverage, report.run.depth
    if depth == "headers" or report.probes is None:
        return "not read: tensor data, so nothing is said of values"
    payload = report.inventory.payload_bytes
    part = f"{size(coverage.payload_bytes_read)} of {size(payload)} of tensor data"
    where = f"{plural(coverage.tensors_read, 'tensor')}, {plural(coverage.blocks_read, 'weight block')}"
    seed = f", seed {report.run.seed}" if depth == "sample" else ""
    device = f"{report.run.device}{f' ({shown(no_gpu)})' if no_gpu else ''}"
    formula = report.probes.scale_formula
    scales = "" if formula is None else f", scales by {'no known formula' if formula == 'none' else formula}"
    resumed, shards = report.run.resumed_shards, plural(report.inventory.shards, "shard")
    state = f"; {resumed:,} of {shards}' results are from the state folder" if resumed else ""
    return f"{part} ({share(coverage.payload_bytes_read, payload)}): {where}{scales}, on {device}{seed}{state}"


def _printable(text: str) -> str:
    """`text` where standard output can encode it, else nothing: a mark is no reason to fail."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return ""
    return text


def show(report: "AuditReport", *, no_gpu: str = "") -> None:
    """Print the whole report; in colour on a terminal alone. `no_gpu` tells why the CPU read what a GPU might have."""
    console = console_of()
    inventory, coverage = report.inventory, report.coverage
    console.print(
        styled(f"{_printable(_MARK[report.verdict] + ' ')}{report.verdict.upper()}", f"bold {_COLOUR[report.verdict]}"),
        styled(f" at depth {_depth(report)}: {shown(report.source.uri)}"),
        sep="",
    )
    if report.meaning is not None:
        console.print(styled(f"  {shown(report.meaning)}", "bold"))
    console.print(
        styled(
            f"  {plural(inventory.tensors, 'tensor')} in {plural(inventory.shards, 'shard')}, "
            f"{size(inventory.payload_bytes)} of tensor data; {report.family or 'no family'}; "
            f"{report.run.duration_s:.2f} s"
        )
    )
    headers = f"{coverage.headers_read:,} of {plural(coverage.shards, 'header')}"
    read = ", ".join([*_documents_read(report), headers])
    console.print(styled(f"  read: {read}; {_content_read(report, no_gpu)}", "dim"))
    if not report.source.versioned:
        why = "the source names no version of its files (no ETag, no Last-Modified)"
        console.print(styled(f"  {why}: a change while they are read may go unseen", "dim"))
    for reason in report.unmet:
        console.print(styled(f"  not enough: {shown(reason)}", _COLOUR["failed"]))
    for reason in report.incomplete:
        console.print(styled(f"  not audited: {shown(reason)}", _COLOUR["incomplete"]))
    _show_findings(console, report)
    _show_excused(console, report)
    show_figures(console, report.figures)
    skipped = [each for each in report.outcomes if each.outcome == "not_applicable"]
    errored = [each for each in report.outcomes if each.outcome == "errored"]
    ran = len(report.outcomes) - len(skipped) - len(errored)
    console.print()
    console.print(styled(f"{plural(ran, 'rule')} ran, {len(skipped)} not applicable" + _reasons(skipped), "dim"))
    for each in errored:
        console.print(styled(f"  {each.rule} {each.slug} crashed: {shown(each.reason or '')}", _COLOUR["error"]))


def console_of() -> "Console":
    """A console on standard output."""
    from rich.console import Console

    class Output(Console):
        """Its own way with a reader that has gone away is exit code 1, which means that a checkpoint failed."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Output(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 120)


def styled(text: str, style: str = "") -> Any:
    """Whatever is printed comes by here: no text of a report acts on a terminal, from whichever field it is."""
    from rich.text import Text

    return Text(shown(text), style=style, overflow="fold")


def _reasons(skipped: list[Any]) -> str:
    reasons: dict[str, int] = {}
    for each in skipped:
        reasons[each.reason] = reasons.get(each.reason, 0) + 1
    return f" ({listed([f'{n} because {reason}' for reason, n in reasons.items()])})" if reasons else ""


def _show_findings(console: "Console", report: "AuditReport") -> None:
    consequences: dict[str, list[Finding]] = {}
    for finding in report.findings:
        if finding.caused_by is not None:
            consequences.setdefault(finding.caused_by, []).append(finding)
    roots = [finding for finding in report.findings if finding.caused_by is None and finding.status == "new"]
    shown_of_rule: dict[str, int] = {}
    for finding in roots:
        if finding.severity == "info":
            continue
        shown_of_rule[finding.rule] = shown_of_rule.get(finding.rule, 0) + 1
        if shown_of_rule[finding.rule] <= _FOLDED:
            _show_finding(console, finding, consequences.get(finding.fingerprint, []))
    for rule, count in shown_of_rule.items():
        if count > _FOLDED:
            console.print(
                styled(f"  … and {plural(count - _FOLDED, 'finding')} more of {rule}; --json or --html has all", "dim")
            )
    _show_notes(console, [finding for finding in roots if finding.severity == "info"])


def _show_excused(console: "Console", report: "AuditReport") -> None:
    """What does not gate, and why: known and waived findings, what is gone, and waivers that waive nothing."""
    lines: list[tuple[str, str, str]] = []
    for status in ("waived", "known"):
        alike: dict[tuple[str, str, Waiver | None], list[Finding]] = {}
        for finding in report.findings:
            if finding.status == status and finding.caused_by is None:
                alike.setdefault((finding.rule, finding.slug, finding.waiver), []).append(finding)
        for (rule, slug, waiver), them in alike.items():
            members = f" ({sum(each.count for each in them):,})"
            lines.append((status.upper(), shown(f"{rule} {slug}"), members + _because(waiver)))
    for gone in report.gone:
        lines.append(
            ("GONE", shown(f"{gone.rule} {gone.slug}"), f"  {gone.count:,} of {gone.of:,}: {shown(gone.message)}")
        )
    for use in report.waivers:
        text = _idle(use)
        if text is not None:
            lines.append(("WAIVER", shown(f"{use.rule} {use.slug}"), f"  {text}"))
    if lines:
        console.print()
    for head, name, text in lines[:_EXCUSED]:
        style = _COLOUR["warning"] if head == "WAIVER" else "dim"
        console.print(styled(f"{head:7} ", style), styled(name, "bold"), styled(text), sep="")
    if len(lines) > _EXCUSED:
        console.print(styled(f"  … and {len(lines) - _EXCUSED:,} more; --json or --html has all", "dim"))


def _because(waiver: "Waiver | None") -> str:
    if waiver is None:
        return "  in the baseline"
    owner = f", {shown(waiver.owner)}" if waiver.owner else ""
    return f"  until {waiver.expires}{owner}: {shown(waiver.reason)}"


def _idle(use: "WaiverUse") -> str | None:
    """Why a waiver waives nothing, or None where it does."""
    target = " ".join(
        f"{kind} {shown(glob)}"
        for kind, glob in (("tensor", use.tensor), ("file", use.file), ("field", use.field))
        if glob is not None
    )
    covers = f"{use.members:,} of {plural(use.findings, 'finding')}"
    said = {
        "used": None,
        "unused": "matches nothing: remove it",
        "not_run": "its rule did not run, so nothing is known of it",
        "partial": f"covers {covers}, none of which as a whole",
        "expired": f"expired on {use.expires}" + (f" and no longer waives {covers}" if use.findings else ": remove it"),
    }[use.state]
    return None if said is None else f"{target}: {said}"


def _show_notes(console: "Console", notes: "list[Finding]") -> None:
    """What is worth knowing, a line for each rule."""
    by_rule: dict[str, list[Finding]] = {}
    for note in notes:
        by_rule.setdefault(note.rule, []).append(note)
    if notes:
        console.print()
    for rule, alike in by_rule.items():
        more = f" (and {len(alike) - 1} more)" if len(alike) > 1 else ""
        console.print(
            styled("INFO    ", f"bold {_COLOUR['info']}"),
            styled(f"{rule} {alike[0].slug}", "bold"),
            styled(f"  {shown(alike[0].message)}{more}"),
            sep="",
        )


def _show_finding(console: "Console", finding: "Finding", consequences: "list[Finding]") -> None:
    count = f"  ({finding.count:,} alike)" if finding.count > 1 else ""
    console.print()
    console.print(
        styled(f"{finding.severity.value.upper():7} ", f"bold {_COLOUR[finding.severity]}"),
        styled(f"{finding.rule} {finding.slug}", "bold"),
        styled(count),
        sep="",
    )
    place = finding.location
    where = [shown(each) for each in (place.file, place.tensor, place.field) if each]
    if place.bytes is not None:
        where.append(f"bytes {place.bytes[0]:,} to {place.bytes[1]:,}")
    if where:
        console.print(styled(f"  {' · '.join(where)}"))
    console.print(styled(f"  {shown(finding.message)}"))
    affected = [each for each in finding.affected if each not in (place.tensor, place.file)]
    for pattern in affected[:_PATTERNS]:
        console.print(styled(f"    affects {shown(pattern)}", "dim"))
    if len(affected) > _PATTERNS:
        rest = plural(len(affected) - _PATTERNS, "pattern")
        console.print(styled(f"    and {rest} more; --json or --html has {'these' if finding.more else 'all'}", "dim"))
    if finding.more:
        console.print(styled(f"    and {finding.more:,} more that no report lists", "dim"))
    if finding.uncovered:
        rest = listed([shown(each) for each in finding.uncovered], most=_PATTERNS)
        console.print(styled(f"    excused in part; neither waived nor known: {rest}"))
    also: dict[str, int] = {}
    for each in consequences:
        name = f"{each.rule} {each.slug}"
        also[name] = also.get(name, 0) + each.count
    if also:
        console.print(
            styled(f"    hence also {listed([f'{name} ({n:,})' for name, n in also.items()], most=9)}", "dim")
        )


def show_figures(console: "Console", figures: "tuple[Figure, ...]") -> None:
    """Print parameter figures, published beside exact."""
    from rich.table import Table

    if not figures:
        return
    published = any(figure.published for figure in figures)
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    table.add_column("figure", no_wrap=True)
    if published:
        table.add_column("published", justify="right", no_wrap=True)
    table.add_column("exact", justify="right", no_wrap=True)
    if published:
        table.add_column("off by", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
    table.add_column("counted", overflow="fold")
    for figure in figures:
        for row, count in enumerate(figure.counts):
            off = f"{count.deviation_percent:+.2f} %" if count.deviation_percent is not None else ""
            first = row == 0
            cells = [figure.name if first else "", f"{count.parameters:,}", count.convention]
            if published:
                cells.insert(1, (figure.published or "") if first else "")
                cells[3:3] = [off, _FIGURE[figure.verdict] if first else ""]
            table.add_row(*map(styled, cells))
    console.print()
    console.print(table)
    for figure in figures:
        if figure.verdict == "contradicted" and figure.note:
            console.print(styled(f"  {figure.published}: {figure.note}", "dim"))
