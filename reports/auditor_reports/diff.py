"""A difference between two checkpoints as one HTML page: offline, without a script, under a strict policy."""

from typing import Any

from auditor_reports import text
from auditor_reports.document import compose
from auditor_schemas.conversion import ConversionValues, ElementPlace
from auditor_schemas.diff import CheckpointDiff, TensorChange, TensorKind

ROWS = 500
PATTERNS = 50
_VERDICTS = {
    "faithful": "A faithful conversion",
    "lossy": "A conversion within what its format rounds",
    "unfaithful": "Not what a conversion gives",
    "undecided": "Not everything could be compared",
}
_RELATIONS = {
    "same_bytes": "same bytes",
    "same_values": "same values",
    "requantised": "requantised",
    "rounded": "rounded",
    "different": "different",
    "not_compared": "not compared",
}


def render(diff: CheckpointDiff, *, above: str | None = None) -> str:
    """The page. Every text in it is escaped and shown as escapes; long lists are cut and say so.

    `above` is the address of the checkpoint's history, where the page is one of a service.
    """
    return compose(
        "diff.html",
        style="diff.css",
        diff=diff,
        sections=_sections(diff),
        sides=[_side("old", diff.old), _side("new", diff.new)],
        conclusion=_conclusion(diff),
        told=_told(diff),
        open_=_open(diff),
        above=above,
    )


def _conclusion(diff: CheckpointDiff) -> str:
    if diff.values is not None:
        return _VERDICTS[diff.values.verdict]
    if diff.incomplete:
        return "Not everything could be compared"
    return "Nothing differs of what could be compared" if diff.same else "They differ"


def _told(diff: CheckpointDiff) -> list[str]:
    """What is said below the title."""
    values = diff.values
    if values is None:
        return []
    seed = f", seed {values.seed}" if values.seed is not None else ""
    read = f"{text.size(values.bytes_read)} of {text.size(values.bytes_total)} of tensor data of both sides{seed}"
    return [f"{values.conclusion}.", *values.conversions, f"Read: {read}."]


def _open(diff: CheckpointDiff) -> list[str]:
    """What was not compared."""
    if diff.values is None:
        return [*diff.incomplete, *diff.not_compared]
    return [*diff.values.unread, *diff.values.not_compared]


def _side(title: str, side: Any) -> dict[str, Any]:
    return {
        "title": title,
        "uri": side.uri,
        "rows": [
            ("kind", side.kind),
            ("verdict", f"{side.verdict} at depth {side.depth}"),
            ("family", side.family or "none"),
            ("tensors", f"{text.plural(side.tensors, 'tensor')} in {text.plural(side.shards, 'shard')}"),
            ("tensor data", text.size(side.payload_bytes)),
            ("revision", side.revision or "none"),
            ("fingerprint", side.fingerprint or "not known"),
            ("content", side.content_sha256 or "not read as a whole"),
        ],
    }


def _sections(diff: CheckpointDiff) -> list[dict[str, Any]]:
    """Tables with a title, a head and rows of cells; a cell is a text or a list of patterns."""
    values = [] if diff.values is None else _values(diff.values)
    return [*values, *_changes(diff)]


def _values(values: ConversionValues) -> list[dict[str, Any]]:
    """What the values of tensors say."""
    kinds = [
        [_RELATIONS[each.relation], text.number(each.count), _way(each.old_format, each.new_format),
         each.formula or each.fault, _error(each.largest_error), _error(each.rms_error), _listed(each.patterns)]
        for each in values.kinds
    ]  # fmt: skip
    tensors = [
        [
            _RELATIONS[each.relation],
            [_name(each.old, each.new)],
            each.message,
            _place(each.first),
            _error(each.largest_error),
            _error(each.rms_error),
        ]
        for each in values.tensors
    ]
    differing = sum(each.count for each in values.kinds if each.relation == "different")
    head = ("relation", "tensors", "formats", "formula or fault", "largest error", "rms error", "names")
    odd = ("relation", "tensor", "what is there", "first", "largest error", "rms error")
    alone = ("tensors", "format", "excused", "names")
    return [
        _section("kinds", "Values by relation", head, kinds, sum(each.count for each in values.kinds)),
        _section("worst", "Tensors that are not the same, the worst first", odd, tensors, differing),
        *(
            _section(
                name,
                title,
                alone,
                [
                    [text.number(e.count), f"{e.format} {text.shape(e.shape)}", e.excused, _listed(e.patterns)]
                    for e in each
                ],
                sum(e.count for e in each),
            )
            for name, title, each in (
                ("left-out", "Tensors left out", values.left_out),
                ("new", "Tensors of NEW alone", values.added),
            )
        ),
    ]


def _name(old: str, new: str) -> str:
    return new if old == new else f"{new} (OLD's {old})"


def _way(old: str, new: str) -> str:
    return new if old == new else f"{old} → {new}"


def _error(value: float) -> str:
    return f"{value:.3g}" if value else ""


def _place(first: ElementPlace | None) -> str:
    if first is None:
        return ""
    begin, end = (text.number(each) for each in first.bytes)
    row, column = text.number(first.row), text.number(first.column)
    return f"row {row}, column {column}: {first.old} → {first.new}; {first.file}, bytes {begin} to {end}"


def _changes(diff: CheckpointDiff) -> list[dict[str, Any]]:
    unknown = {name for name, known in (("bytes", diff.bytes_compared), ("config", diff.config_compared)) if not known}
    sections = [
        _section(name, title, ("tensors", "old", "new", "names"), [_change(each) for each in changes],
                 sum(each.count for each in changes))
        for name, title, changes in (
            ("added", "Tensors added", diff.added),
            ("removed", "Tensors removed", diff.removed),
            ("reshaped", "Tensors reshaped", diff.reshaped),
            ("retyped", "Tensors retyped", diff.retyped),
            ("bytes", "Tensors changed in bytes", diff.changed_bytes),
        )
    ]  # fmt: skip
    moves = [
        [text.number(each.count), _listed(each.old), _listed(each.new), _listed(each.patterns)] for each in diff.moved
    ]
    sections.append(
        _section("moved", "Tensors moved to another shard", ("tensors", "old", "new", "names"), moves,
                 sum(each.count for each in diff.moved))
    )  # fmt: skip
    fields = [
        [each.change, each.field, *(
            "" if each.change == absent else text.value(value)
            for absent, value in (("added", each.old), ("removed", each.new))
        )]
        for each in diff.config
    ]  # fmt: skip
    sections.append(_section("config", "config.json fields", ("change", "field", "old", "new"), fields, len(fields)))
    findings = [
        [each.change, each.severity.value, f"{each.rule} {each.slug}",
         ("" if each.change == "known" else f"{text.number(each.count)} of ") + text.number(each.of), each.message]
        for each in sorted(diff.findings, key=lambda each: ("new", "gone", "known").index(each.change))
    ]  # fmt: skip
    head = ("change", "severity", "rule", "members", "message")
    changed = sum(each.change != "known" for each in diff.findings)
    sections.append(_section("findings", "Findings new, gone and known", head, findings, changed))
    figures = [
        [each.name, each.convention, *("not counted" if n is None else text.number(n) for n in (each.old, each.new)),
         "" if each.old is None or each.new is None else text.signed(each.new - each.old)]
        for each in diff.figures
    ]  # fmt: skip
    head = ("figure", "counted", "old", "new", "difference")
    changed = sum(each.old != each.new for each in diff.figures)
    sections.append(_section("figures", "Parameter figures", head, figures, changed))
    for section in sections:
        if section["name"] in unknown:
            section["count"] = "not known"
    return sections


def _section(name: str, title: str, head: tuple[str, ...], rows: list[list[Any]], changed: int) -> dict[str, Any]:
    more = f"{text.number(len(rows) - ROWS)} more rows are in the JSON" if len(rows) > ROWS else ""
    return {
        "name": name,
        "title": title,
        "head": head,
        "rows": rows[:ROWS],
        "count": text.number(changed),
        "more": more,
    }


def _change(change: TensorChange) -> list[Any]:
    return [text.number(change.count), _kind(change.old), _kind(change.new), _listed(change.patterns)]


def _kind(kind: TensorKind | None) -> str:
    return "" if kind is None else f"{kind.dtype} {text.shape(kind.shape)}"


def _listed(names: tuple[str, ...]) -> list[str]:
    more = [f"and {text.number(len(names) - PATTERNS)} more, in the JSON"] if len(names) > PATTERNS else []
    return [*names[:PATTERNS], *more]
