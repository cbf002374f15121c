"""Published figures beside exact counts, and parameters by component."""

from dataclasses import dataclass

from auditor_reports import text
from auditor_schemas.figures import Figure
from auditor_schemas.report import AuditReport

VERDICTS = {
    "exact": ("✓", "exact"),
    "matches_rounded": ("≈", "matches, rounded"),
    "contradicted": ("✘", "contradicted"),
    "not_applicable": ("–", "nothing published"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CountView:
    """One counting convention of a figure."""

    convention: str
    parameters: str
    deviation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureView:
    """A published figure beside its exact counts."""

    name: str
    published: str | None
    source: str | None
    counts: tuple[CountView, ...]
    verdict: str
    mark: str
    words: str
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TallyRow:
    """One component's parameters, from the config and from the headers."""

    component: str
    from_config: str
    from_headers: str
    difference: str
    differs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresView:
    """Figures, the table of components with its total, and what stands beside parameters."""

    figures: tuple[FigureView, ...]
    tallies: tuple[TallyRow, ...]
    total: TallyRow
    beside: tuple[tuple[str, str], ...]


def figures_view(report: AuditReport) -> FiguresView:
    """The sections, worded."""
    components = report.tallies.components
    known = [c.from_config for c in components if c.from_config is not None]
    expected = sum(known) if len(known) == len(components) else None
    return FiguresView(
        figures=tuple(_figure(figure) for figure in report.figures),
        tallies=tuple(_tally(text.words(c.component), c.from_config, c.from_headers) for c in components),
        total=_tally("all components", expected, sum(c.from_headers for c in components)),
        beside=(
            ("block scale elements, never parameters", text.number(report.tallies.scale_elements)),
            ("elements of no known component", text.number(report.tallies.unclassified_elements)),
        ),
    )


def _figure(figure: Figure) -> FigureView:
    mark, words = VERDICTS[figure.verdict]
    return FigureView(
        name=figure.name,
        published=figure.published,
        source=figure.source,
        counts=tuple(
            CountView(
                convention=count.convention,
                parameters=text.number(count.parameters),
                deviation="—" if count.deviation_percent is None else text.percent(count.deviation_percent),
            )
            for count in figure.counts
        ),
        verdict=figure.verdict,
        mark=mark,
        words=words,
        note=figure.note,
    )


def _tally(name: str, expected: int | None, actual: int) -> TallyRow:
    return TallyRow(
        component=name,
        from_config="—" if expected is None else text.number(expected),
        from_headers=text.number(actual),
        difference="—" if expected is None else text.signed(actual - expected),
        differs=expected is not None and actual != expected,
    )
