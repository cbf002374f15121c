"""Everything the page says, worded and formatted, so that its templates only lay it out."""

from dataclasses import dataclass
from datetime import UTC

from auditor_reports import text
from auditor_reports.view_findings import FindingsView, findings
from auditor_reports.view_map import MapView, checkpoint_map
from auditor_schemas.report import AuditReport, Figure, LayoutRow, Parallelism, RuleOutcome

LAYOUT_ROWS = 5_000

VERDICTS = {"passed": "Passed", "failed": "Failed", "incomplete": "Incomplete"}
FIGURE_VERDICTS = {
    "exact": ("✓", "exact"),
    "matches_rounded": ("≈", "matches, rounded"),
    "contradicted": ("✘", "contradicted"),
    "not_applicable": ("–", "not applicable"),
}
OUTCOMES = {
    "failed": ("✘", "failed"),
    "errored": ("◐", "errored"),
    "not_applicable": ("–", "not applicable"),
    "passed": ("✓", "passed"),
}
# Bits per element, as the safetensors format defines its dtypes.
DTYPE_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountView:
    """One counting convention of a figure."""

    convention: str
    parameters: str
    deviation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureView:
    """A published figure beside its exact counts; `rows` is what it takes of the table."""

    name: str
    published: str
    source: str | None
    counts: tuple[CountView, ...]
    rows: int
    verdict: str
    mark: str
    words: str
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DtypeView:
    """What one dtype holds; `bar` is its share of the payload in thousandths."""

    dtype: str
    elements: str
    size: str
    share: str
    bar: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeView:
    """What became of one rule."""

    rule: str
    slug: str
    title: str
    severity: str
    outcome: str
    mark: str
    words: str
    examined: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelView:
    """One tensor parallel size with the splits that no weight block divides."""

    size: str
    clean: bool
    uneven: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TallyRow:
    """One component's parameters, from the config and from the headers."""

    component: str
    from_config: str
    from_headers: str
    difference: str
    differs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutView:
    """Tensors alike in pattern, shape and dtype."""

    pattern: str
    shape: str
    dtype: str
    count: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The page from top to bottom."""

    title: str
    source: str
    verdict: str
    word: str
    sentence: str
    reasons: tuple[str, ...]
    badges: tuple[tuple[str, str, str], ...]
    findings: FindingsView
    covered: tuple[str, ...]
    not_covered: tuple[str, ...]
    map: MapView
    figures: tuple[FigureView, ...]
    tallies: tuple[TallyRow, ...]
    tally_total: TallyRow
    beside: Pairs
    inventory: Pairs
    dtypes: tuple[DtypeView, ...]
    layout: tuple[LayoutView, ...]
    layout_summary: str
    layout_hidden: str | None
    parallelism: tuple[ParallelView, ...]
    outcomes: tuple[OutcomeView, ...]
    outcome_counts: tuple[tuple[str, str, str], ...]
    provenance: Pairs


def page(report: AuditReport) -> Page:
    """The report, worded."""
    listed = findings(report.findings)
    layout = report.layout[:LAYOUT_ROWS]
    hidden = len(report.layout) - len(layout)
    ranks = {outcome: rank for rank, outcome in enumerate(OUTCOMES)}
    outcomes = sorted(report.outcomes, key=lambda o: ranks[o.outcome])
    rows, total = _tallies(report)
    return Page(
        title=f"{VERDICTS[report.verdict]}: {report.source.uri}",
        source=report.source.uri,
        verdict=report.verdict,
        word=VERDICTS[report.verdict],
        sentence=_sentence(report, listed),
        reasons=report.incomplete,
        badges=_badges(report, listed),
        findings=listed,
        covered=_covered(report),
        not_covered=_not_covered(report),
        map=checkpoint_map(report.cells, listed),
        figures=tuple(_figure(figure) for figure in report.figures),
        tallies=rows,
        tally_total=total,
        beside=(
            ("block scale elements", text.number(report.tallies.scale_elements)),
            ("elements of no known component", text.number(report.tallies.unclassified_elements)),
        ),
        inventory=_inventory(report),
        dtypes=_dtypes(report),
        layout=tuple(_layout(row) for row in layout),
        layout_summary=f"{text.plural(report.inventory.tensors, 'tensor')} in "
        f"{text.plural(len(report.layout), 'pattern')}",
        layout_hidden=f"{text.plural(hidden, 'more pattern')} in the JSON" if hidden else None,
        parallelism=tuple(_parallel(entry) for entry in report.parallelism),
        outcomes=tuple(_outcome(outcome) for outcome in outcomes),
        outcome_counts=tuple(
            (key, words, text.number(sum(o.outcome == key for o in outcomes)))
            for key, (_, words) in OUTCOMES.items()
            if any(o.outcome == key for o in outcomes)
        ),
        provenance=_provenance(report),
    )


def _sentence(report: AuditReport, listed: FindingsView) -> str:
    """How the verdict's word goes on."""
    tensors, shards = text.plural(report.inventory.tensors, "tensor"), text.plural(report.inventory.shards, "shard")
    found = [text.plural(listed.roots[severity], noun) for severity, noun in _SEVERITY_NOUNS if listed.roots[severity]]
    within = f"{tensors} in {shards}"
    if report.verdict != "passed" and found:
        within = f"{text.listed(found)} in {tensors} of {shards}"
    return f"at depth {report.run.depth}: {within}; {_payload(report)}."


_SEVERITY_NOUNS = (("error", "error"), ("warning", "warning"))


def _payload(report: AuditReport) -> str:
    read, whole = report.coverage.payload_bytes_read, report.inventory.payload_bytes
    if read == 0:
        return "payload bytes were not read"
    if read >= whole:
        return "every payload byte was read"
    return f"{text.share(read, whole)} of payload bytes were read"


def _badges(report: AuditReport, listed: FindingsView) -> tuple[tuple[str, str, str], ...]:
    """Kind, number and noun of what was found, root causes apart from consequences."""
    badges = [
        (kind, text.number(count), noun if count == 1 else nouns)
        for kind, noun, nouns in (("error", "error", "errors"), ("warning", "warning", "warnings"))
        for count in (listed.roots[kind],)
    ]
    badges.append(("info", text.number(listed.roots["info"]), "worth knowing"))
    if listed.consequences:
        badges.append(("plain", text.number(listed.consequences), "explained by these"))
    for status in ("known", "waived"):
        count = sum(finding.status == status for finding in report.findings)
        if count:
            badges.append(("plain", text.number(count), status))
    return tuple(badges)


def _covered(report: AuditReport) -> tuple[str, ...]:
    coverage, inventory = report.coverage, report.inventory
    lines = [f"shard headers read: {text.number(coverage.headers_read)} of {text.number(coverage.shards)}"]
    if coverage.payload_bytes_read:
        lines.append(
            f"{text.size(coverage.payload_bytes_read)} of {text.size(inventory.payload_bytes)} of payload read "
            f"({text.share(coverage.payload_bytes_read, inventory.payload_bytes)})"
        )
    looked = sum(outcome.outcome in ("passed", "failed") for outcome in report.outcomes)
    lines.append(f"rules that looked and decided: {text.number(looked)} of {text.number(len(report.outcomes))}")
    if report.family is not None:
        lines.append(f"every expected tensor derived from config.json, family {report.family}")
    return tuple(lines)


def _not_covered(report: AuditReport) -> tuple[str, ...]:
    lines = []
    coverage, inventory = report.coverage, report.inventory
    if coverage.payload_bytes_read == 0:
        extent = f"none of {text.size(inventory.payload_bytes)}" if inventory.payload_bytes else "nothing"
        lines.append(f"payload: {extent} read, so no statement about values")
    elif coverage.payload_bytes_read < inventory.payload_bytes:
        rest = inventory.payload_bytes - coverage.payload_bytes_read
        lines.append(f"payload: {text.size(rest)} not read")
    if report.family is None:
        lines.append("no family known for this config, so nothing was expected of names and shapes")
    for outcome, verb in (("not_applicable", "not applicable"), ("errored", "errored")):
        count = sum(o.outcome == outcome for o in report.outcomes)
        if count:
            lines.append(f"{text.plural(count, 'rule')} {verb}")
    return (*lines, *coverage.unread)


def _figure(figure: Figure) -> FigureView:
    mark, words = FIGURE_VERDICTS[figure.verdict]
    return FigureView(
        name=figure.name,
        published=figure.published or "—",
        source=figure.source,
        counts=tuple(
            CountView(
                convention=count.convention,
                parameters=text.number(count.parameters),
                deviation="—" if count.deviation_percent is None else text.percent(count.deviation_percent),
            )
            for count in figure.counts
        ),
        rows=len(figure.counts) + (figure.note is not None),
        verdict=figure.verdict,
        mark=mark,
        words=words,
        note=figure.note,
    )


def _tallies(report: AuditReport) -> tuple[tuple[TallyRow, ...], TallyRow]:
    components = report.tallies.components
    rows = tuple(_tally(text.words(c.component), c.from_config, c.from_headers) for c in components)
    known = [c.from_config for c in components if c.from_config is not None]
    expected = sum(known) if len(known) == len(components) else None
    return rows, _tally("all components", expected, sum(c.from_headers for c in components))


def _tally(name: str, expected: int | None, actual: int) -> TallyRow:
    return TallyRow(
        component=name,
        from_config="—" if expected is None else text.number(expected),
        from_headers=text.number(actual),
        difference="—" if expected is None else text.signed(actual - expected),
        differs=expected is not None and actual != expected,
    )


def _inventory(report: AuditReport) -> Pairs:
    inventory = report.inventory
    return (
        ("tensors", text.number(inventory.tensors)),
        ("shards", text.number(inventory.shards)),
        ("elements, scales included", text.number(inventory.elements)),
        ("payload", f"{text.number(inventory.payload_bytes)} B ({text.size(inventory.payload_bytes)})"),
        ("files", f"{text.number(inventory.file_bytes)} B ({text.size(inventory.file_bytes)})"),
    )


def _dtypes(report: AuditReport) -> tuple[DtypeView, ...]:
    sizes = {
        dtype: (elements * DTYPE_BITS[dtype] + 7) // 8 if dtype in DTYPE_BITS else None
        for dtype, elements in report.inventory.by_dtype.items()
    }
    whole = sum(size or 0 for size in sizes.values())
    views = []
    for dtype, elements in sorted(report.inventory.by_dtype.items(), key=lambda item: (-(sizes[item[0]] or 0), item)):
        size = sizes[dtype]
        views.append(
            DtypeView(
                dtype=dtype,
                elements=text.number(elements),
                size="—" if size is None else text.size(size),
                share="—" if size is None else text.share(size, whole),
                bar=None if size is None or not whole else max(1, round(1000 * size / whole)),
            )
        )
    return tuple(views)


def _layout(row: LayoutRow) -> LayoutView:
    return LayoutView(
        pattern=row.pattern, shape=text.shape(row.shape), dtype=row.dtype, count=text.number(row.count), files=row.files
    )


def _parallel(entry: Parallelism) -> ParallelView:
    return ParallelView(
        size=text.number(entry.tensor_parallel),
        clean=entry.clean,
        uneven=tuple(
            f"{split.pattern}: axis {split.axis}, {split.size:,} / {entry.tensor_parallel} = {split.partition:,.10g}; "
            f"{split.reason}"
            for split in entry.uneven
        ),
    )


def _outcome(outcome: RuleOutcome) -> OutcomeView:
    mark, words = OUTCOMES[outcome.outcome]
    return OutcomeView(
        rule=outcome.rule,
        slug=outcome.slug,
        title=outcome.title,
        severity=outcome.severity,
        outcome=outcome.outcome,
        mark=mark,
        words=words,
        examined=text.number(outcome.examined),
        reason=outcome.reason or "",
    )


def _provenance(report: AuditReport) -> Pairs:
    run, started = report.run, report.run.started_at
    if started.tzinfo is not None:
        moment = f"{started.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    else:
        moment = f"{started:%Y-%m-%d %H:%M:%S}, no time zone"
    pairs = [
        ("source", report.source.uri),
        ("revision", report.source.revision or "none given"),
        ("fingerprint", report.source.fingerprint or "none: not everything it covers could be read"),
        ("family", report.family or "unknown"),
        ("depth", run.depth),
        ("fails on", report.fail_on),
        ("policy", f"SHA-256 {report.policy.sha256}" if report.policy else "none"),
        ("baseline", f"SHA-256 {report.baseline.sha256}" if report.baseline else "none"),
        ("engine", run.engine if run.device is None else f"{run.engine}, device {run.device}"),
        ("started", moment),
        ("duration", f"{run.duration_s:,.2f} s"),
        ("tool", f"{report.tool.name} {report.tool.version}"),
        ("report schema", f"version {report.schema_version}"),
    ]
    if run.seed is not None:
        pairs.insert(5, ("seed", str(run.seed)))
    return tuple(pairs)
