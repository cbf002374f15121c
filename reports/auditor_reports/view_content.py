"""What the bytes that were read say: round trips, scales, largest codes, spot checks, digests."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from auditor_reports import text
from auditor_reports.charts import ColumnChart, HeatMap, Segment, column_chart, heat_map, stack
from auditor_reports.view_texture import TextureView, texture_views
from auditor_schemas.content import FunctionalCheck, ProbeGroup, Probes, RoundTrip, ScaleProbe, TensorProbe
from auditor_schemas.report import AuditReport

SPOT_ROWS = 500
DIGEST_ROWS = 1_000
KINDS = 100
CHARTS = 16

OUTCOMES = {
    "exact": ("✓", "exact"),
    "value_equal": ("≈", "equal values"),
    "changed": ("✘", "changed"),
    "undefined": ("?", "undefined"),
}
MEANINGS = {
    "exact": "codes and scale come back bit for bit",
    "value_equal": "other codes and scale, the same values",
    "changed": "other values come back",
    "undefined": "a NaN code or an unusable scale leaves nothing to compare",
}
_WORST = {outcome: rank for rank, outcome in enumerate(reversed(OUTCOMES))}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeView:
    """How many weight blocks came out one way."""

    kind: str
    mark: str
    words: str
    meaning: str
    blocks: str
    share: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KindView:
    """Tensors of one kind over all layers. `faults` names what values must not be."""

    kind: str
    dtype: str
    tensors: str
    read: str
    range: str
    zeros: str
    faults: str
    blocks: str
    trip: str
    scales: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotView:
    """One spot-checked tensor."""

    tensor: str
    file: str
    rows: str
    outcome: str
    mark: str
    words: str
    blocks: str
    error: str
    functional: str
    within: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentView:
    """The content section."""

    sentence: str
    facts: tuple[tuple[str, str], ...]
    outcomes: tuple[OutcomeView, ...]
    bar: tuple[Segment, ...]
    kinds: tuple[KindView, ...]
    kinds_hidden: str | None
    textures: tuple[TextureView, ...]
    textures_hidden: str | None
    codes: HeatMap | None
    exponents: HeatMap | None
    scales: tuple[tuple[str, str, ColumnChart], ...]
    spots: tuple[SpotView, ...]
    spots_summary: str
    spots_hidden: str | None
    judged: str | None
    digest: str | None
    digests: tuple[tuple[str, str, str], ...]
    digests_hidden: str | None


def content_view(report: AuditReport) -> ContentView | None:
    """The section, worded; None where no content was read."""
    probes = report.probes
    if probes is None:
        return None
    trips = [group.round_trip for group in probes.groups if group.round_trip is not None]
    counts = {outcome: sum(getattr(trip, outcome) for trip in trips) for outcome in OUTCOMES}
    blocks = sum(counts.values())
    kinds, textures = _kinds(probes.groups), texture_views(probes.groups)
    spots = _spots(probes)
    digest = report.content_digest
    return ContentView(
        sentence=_sentence(report),
        facts=_facts(report, probes),
        outcomes=tuple(
            OutcomeView(
                kind=outcome,
                mark=mark,
                words=words,
                meaning=MEANINGS[outcome] + (_drift(trips) if outcome == "changed" else ""),
                blocks=text.number(counts[outcome]),
                share=text.share(counts[outcome], blocks),
            )
            for outcome, (mark, words) in OUTCOMES.items()
        )
        if trips
        else (),
        bar=stack([(outcome, count, "") for outcome, count in counts.items()], blocks),
        kinds=tuple(kinds[:KINDS]),
        kinds_hidden=_hidden(len(kinds), KINDS, "kind"),
        textures=tuple(textures[:KINDS]),
        textures_hidden=_hidden(len(textures), KINDS, "kind"),
        codes=_codes(probes.groups),
        exponents=_exponents(probes.groups),
        scales=_scales(probes.groups),
        spots=tuple(spots[:SPOT_ROWS]),
        spots_summary=_spot_summary(probes.tensors),
        spots_hidden=_hidden(len(spots), SPOT_ROWS, "tensor"),
        judged=_judge(probes.functional),
        digest=digest.sha256 if digest else None,
        digests=tuple((each.file, text.number(each.bytes), each.sha256) for each in digest.shards[:DIGEST_ROWS])
        if digest
        else (),
        digests_hidden=_hidden(len(digest.shards), DIGEST_ROWS, "shard") if digest else None,
    )


def _drift(trips: Iterable[RoundTrip]) -> str:
    drifted = sum(trip.drifted for trip in trips)
    return f"; {text.number(drifted)} keep their codes, and their scale moves by its last bits" if drifted else ""


def _hidden(count: int, shown: int, noun: str) -> str | None:
    return f"{text.plural(count - shown, f'more {noun}')} in the JSON" if count > shown else None


def _sentence(report: AuditReport) -> str:
    coverage, whole = report.coverage, report.inventory.payload_bytes
    read = coverage.payload_bytes_read
    if read >= whole > 0:
        extent = f"Every byte of all {text.plural(report.inventory.tensors, 'tensor')} was read once."
    else:
        extent = (
            f"A sample was read: {text.size(read)} of {text.size(whole)} ({text.share(read, whole)}), "
            f"from {coverage.tensors_read:,} of {text.plural(report.inventory.tensors, 'tensor')}. "
            "What lies outside the sample is not judged."
        )
    return extent


def _facts(report: AuditReport, probes: Probes) -> tuple[tuple[str, str], ...]:
    coverage, run = report.coverage, report.run
    facts = [("coverage", "full" if coverage.payload_bytes_read >= report.inventory.payload_bytes else "sampled")]
    if run.seed is not None:
        facts.append(("seed", str(run.seed)))
    facts.append(("device", run.device or "CPU"))
    if run.resumed_shards is not None:
        facts.append(("shards told by a state folder", text.number(run.resumed_shards)))
    facts.append(("weight blocks read", text.number(coverage.blocks_read)))
    if probes.scale_formula is not None:
        none = probes.scale_formula == "none"
        facts.append(("scale formula", "none that is known" if none else probes.scale_formula))
    facts.append(("tensors spot-checked", text.number(len(probes.tensors))))
    return tuple(facts)


def _kinds(groups: Iterable[ProbeGroup]) -> list[KindView]:
    merged: dict[tuple[str, str], list[ProbeGroup]] = {}
    for group in groups:
        merged.setdefault((group.kind, group.dtype), []).append(group)
    return [_kind(kind, dtype, members) for (kind, dtype), members in merged.items()]


def _kind(kind: str, dtype: str, members: list[ProbeGroup]) -> KindView:
    read, held = sum(g.elements_read for g in members), sum(g.elements for g in members)
    trips = [g.round_trip for g in members if g.round_trip is not None]
    scales = [g.scales for g in members if g.scales is not None]
    zeros = sum(g.zeros for g in members)
    faults = [
        f"{text.number(count)} {word}"
        for word, count in (
            ("NaN", sum(g.nan for g in members)),
            ("infinite", sum(g.infinite for g in members)),
            *((word, sum(getattr(s, field) for s in scales)) for word, field in _SCALE_FAULTS),
        )
        if count
    ]
    return KindView(
        kind=kind,
        dtype=dtype,
        tensors=text.number(sum(g.tensors for g in members)),
        read=text.share(read, held),
        range=_range([g.minimum for g in members], [g.maximum for g in members]),
        zeros=text.share(zeros, read),
        faults=", ".join(faults),
        blocks=text.number(sum(t.blocks for t in trips)) if trips else "—",
        trip=_trip(trips),
        scales=_range([s.minimum for s in scales], [s.maximum for s in scales]) if scales else "—",
    )


_SCALE_FAULTS = (
    ("NaN scales", "nan"), ("infinite scales", "infinite"), ("zero scales", "zero"), ("negative scales", "negative"),
    ("subnormal scales", "subnormal"),
)  # fmt: skip


def _range(low: list[float | None], high: list[float | None]) -> str:
    lows, highs = [v for v in low if v is not None], [v for v in high if v is not None]
    return f"{_real(min(lows))} to {_real(max(highs))}" if lows and highs else "—"


def _real(value: float) -> str:
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}", 1) if value < 0 else f"{value:.3g}"


def _percent(share: float) -> str:
    """A relative error in per cent, three significant digits."""
    return f"{100 * share:.3g} %"


def _trip(trips: list[RoundTrip]) -> str:
    if not trips:
        return "—"
    counts = [(OUTCOMES[outcome][1], sum(getattr(trip, outcome) for trip in trips)) for outcome in OUTCOMES]
    whole = sum(count for _, count in counts)
    present = [(words, count) for words, count in counts if count]
    if len(present) == 1:
        return f"all {present[0][0]}"
    return ", ".join(f"{words} {text.share(count, whole)}" for words, count in present)


def _layer(layer: int | None) -> str:
    return "—" if layer is None else str(layer)


def _by_layer(
    groups: Iterable[ProbeGroup], counts_of: Callable[[ProbeGroup], Mapping[int, int] | None]
) -> dict[str, dict[int, int]]:
    """Counts by layer, ascending, what stands outside the layers last."""
    merged: dict[int | None, dict[int, int]] = {}
    for group in groups:
        counts = counts_of(group)
        if not counts:
            continue
        row = merged.setdefault(group.layer, {})
        for number, count in counts.items():
            row[number] = row.get(number, 0) + count
    ordered = sorted(merged.items(), key=lambda each: (each[0] is None, each[0] or 0))
    return {_layer(layer): counts for layer, counts in ordered}


def _codes(groups: Iterable[ProbeGroup]) -> HeatMap | None:
    return heat_map(
        _by_layer(groups, lambda group: group.largest_codes),
        _code,
        "Weight blocks of each layer by the value of their largest code",
    )


def _code(code: int) -> str:
    """The magnitude of an E4M3 bit pattern without its sign."""
    if code == 127:
        return "NaN"
    exponent, mantissa = code >> 3, code & 7
    value = (8 + mantissa) * 2.0 ** (exponent - 10) if exponent else mantissa * 2.0**-9
    return f"{value:g}"


def _exponents(groups: Iterable[ProbeGroup]) -> HeatMap | None:
    return heat_map(
        _by_layer(groups, lambda group: group.scales.exponents if group.scales else None),
        _exponent,
        "Block scales of each layer by the exponent of the power of two at or below them",
    )


def _exponent(exponent: int) -> str:
    return str(exponent).replace("-", "\N{MINUS SIGN}")


def _scales(groups: Iterable[ProbeGroup]) -> tuple[tuple[str, str, ColumnChart], ...]:
    merged: dict[str, list[ScaleProbe]] = {}
    for group in groups:
        if group.scales is not None:
            merged.setdefault(group.kind, []).append(group.scales)
    charts = []
    for kind, members in list(merged.items())[:CHARTS]:
        counts: dict[int, int] = {}
        for scales in members:
            for exponent, count in scales.exponents.items():
                counts[exponent] = counts.get(exponent, 0) + count
        if not counts or max(counts) - min(counts) > 300:
            continue
        series = [(text.power(e), counts.get(e, 0)) for e in range(min(counts), max(counts) + 1)]
        values, powers = sum(s.values for s in members), sum(s.powers_of_two for s in members)
        chart = column_chart(series, text.number, f"Scales of {kind} by power of two")
        if chart is not None:
            note = f"{values:,} scales, {text.share(powers, values)} powers of two"
            charts.append((kind, note, chart))
    return tuple(charts)


def _spots(probes: Probes) -> list[SpotView]:
    functional = {each.tensor: each for each in probes.functional}
    ordered = sorted(probes.tensors, key=lambda probe: (_WORST[probe.verdict], probe.tensor))
    spots = [_spot(probe, functional.pop(probe.tensor, None)) for probe in ordered]
    return spots + [_functional_alone(check) for check in functional.values()]


def _spot(probe: TensorProbe, check: FunctionalCheck | None) -> SpotView:
    mark, words = OUTCOMES[probe.verdict]
    trip = probe.round_trip
    rows = sum(end - begin for begin, end in probe.rows_read)
    height = probe.shape[0] if probe.shape else rows
    return SpotView(
        tensor=probe.tensor,
        file=probe.file,
        rows="all rows" if rows >= height else f"{rows:,} of {height:,} rows",
        outcome=probe.verdict,
        mark=mark,
        words=words,
        blocks=text.number(trip.blocks),
        error="—" if trip.largest_relative_error is None else _percent(trip.largest_relative_error),
        **_functional(check),
    )


def _functional_alone(check: FunctionalCheck) -> SpotView:
    return SpotView(
        tensor=check.tensor, file="", rows=text.plural(check.rows, "row"), outcome="none", mark="–",
        words="not round-tripped", blocks="—", error="—", **_functional(check),
    )  # fmt: skip


def _functional(check: FunctionalCheck | None) -> dict[str, str]:
    if check is None:
        return {"functional": "—", "within": ""}
    verdict = "within" if check.within else "beyond"
    within = f"{verdict} {_percent(check.tolerance)}, {text.plural(check.tokens, 'token')} on {check.device}"
    return {"functional": _percent(check.relative_error), "within": within}


def _spot_summary(probes: tuple[TensorProbe, ...]) -> str:
    parts = [
        f"{sum(probe.verdict == outcome for probe in probes):,} {words}"
        for outcome, (_, words) in OUTCOMES.items()
        if any(probe.verdict == outcome for probe in probes)
    ]
    return f"{text.plural(len(probes), 'tensor')}: {text.listed(parts)}" if parts else "none"


def _judge(functional: tuple[FunctionalCheck, ...]) -> str | None:
    if not functional:
        return None
    worst = max(functional, key=lambda check: check.relative_error)
    beyond = sum(not check.within for check in functional)
    return (
        f"{text.plural(len(functional), 'functional check')}: largest relative error {_percent(worst.relative_error)} "
        f"in {worst.tensor}; {beyond if beyond else 'none'} beyond the tolerance. "
        "The error is that of the format at work, and judges nothing."
    )
