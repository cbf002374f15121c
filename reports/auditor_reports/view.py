"""Everything the page says, worded and formatted, so that its templates only lay it out."""

from dataclasses import dataclass
from datetime import UTC

from auditor_reports import text
from auditor_reports.view_content import ContentView, content_view
from auditor_reports.view_figures import FiguresView, figures_view
from auditor_reports.view_findings import FindingsView, findings
from auditor_reports.view_map import MapView, checkpoint_map
from auditor_reports.view_parallel import ParallelView, parallel_view
from auditor_reports.view_storage import StorageView, storage_view
from auditor_reports.view_verdict import VerdictView, verdict_view
from auditor_schemas.report import AuditReport, RuleOutcome

OUTCOMES = {
    "failed": ("✘", "failed"),
    "errored": ("◐", "errored"),
    "not_applicable": ("–", "not applicable"),
    "passed": ("✓", "passed"),
}
_RANKS = {outcome: rank for rank, outcome in enumerate(OUTCOMES)}
_SEVERITIES = ("error", "warning", "info")


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
class Page:
    """The page from top to bottom."""

    title: str
    source: str
    verdict: VerdictView
    findings: FindingsView
    map: MapView
    figures: FiguresView
    storage: StorageView
    content: ContentView | None
    parallel: ParallelView
    outcomes: tuple[OutcomeView, ...]
    passed: tuple[OutcomeView, ...]
    outcome_summary: str
    provenance: tuple[tuple[str, str], ...]


def page(report: AuditReport) -> Page:
    """The report, worded."""
    listed = findings(report.findings)
    verdict = verdict_view(report, listed)
    outcomes = sorted(report.outcomes, key=lambda o: (_RANKS[o.outcome], _SEVERITIES.index(o.severity.value), o.rule))
    return Page(
        title=f"{verdict.word}: {report.source.uri}",
        source=report.source.uri,
        verdict=verdict,
        findings=listed,
        map=checkpoint_map(report.cells, listed, report.layout),
        figures=figures_view(report),
        storage=storage_view(report),
        content=content_view(report),
        parallel=parallel_view(report),
        outcomes=tuple(_outcome(outcome) for outcome in outcomes if outcome.outcome != "passed"),
        passed=tuple(_outcome(outcome) for outcome in outcomes if outcome.outcome == "passed"),
        outcome_summary=", ".join(
            f"{count:,} {words}"
            for key, (_, words) in OUTCOMES.items()
            if (count := sum(o.outcome == key for o in outcomes))
        ),
        provenance=_provenance(report),
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


def _provenance(report: AuditReport) -> tuple[tuple[str, str], ...]:
    run, started, coverage = report.run, report.run.started_at, report.coverage
    if started.tzinfo is not None:
        moment = f"{started.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    else:
        moment = f"{started:%Y-%m-%d %H:%M:%S}, no time zone"
    read = f"{coverage.headers_read:,} of {text.plural(coverage.shards, 'header')}, " + (
        f"{coverage.payload_bytes_read:,} of {report.inventory.payload_bytes:,} bytes of tensor data"
    )
    pairs = [
        ("source", report.source.uri),
        ("revision", report.source.revision or ("none given" if report.source.versioned else text.UNVERSIONED)),
        ("fingerprint", report.source.fingerprint or "none: not everything it covers could be read"),
        ("family", report.family or "unknown"),
        ("depth", run.depth),
        ("coverage", read),
        ("fails on", report.fail_on),
        ("policy", f"SHA-256 {report.policy.sha256}" if report.policy else "none"),
        ("baseline", f"SHA-256 {report.baseline.sha256}" if report.baseline else "none"),
        ("engine", run.engine if run.device is None else f"{run.engine}, device {run.device}"),
        ("seed", "none: nothing was sampled" if run.seed is None else str(run.seed)),
        ("started", moment),
        ("duration", f"{run.duration_s:,.2f} s"),
        ("tool", f"{report.tool.name} {report.tool.version}"),
        ("report schema", f"version {report.schema_version}"),
    ]
    if run.nodes:
        nodes = [
            f"{each.node} ({each.device}): {text.size(each.bytes)} in {text.plural(each.units, 'unit')}"
            for each in run.nodes
        ]
        pairs.append(("nodes", "; ".join(nodes)))
    if run.resumed_shards is not None:
        pairs.append(("resumed", f"{text.plural(run.resumed_shards, 'shard')} not read, but told by a state folder"))
    return tuple(pairs)
