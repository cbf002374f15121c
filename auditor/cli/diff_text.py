"""A difference as lines of text: totals first, tensors in patterns, every text from a checkpoint escaped."""

from collections.abc import Iterator, Sequence

from auditor.cli.diff_values_text import value_lines
from auditor.text import listed, plural, quoted, shown, size
from auditor_schemas.diff import CheckpointDiff, DiffSide, TensorChange, TensorKind

_ROWS = 12
_PATTERNS = 4
_SIGN = {"added": "+", "removed": "-", "changed": "~", "new": "+", "gone": "-"}


def lines(diff: CheckpointDiff) -> Iterator[str]:
    """The whole difference, long lists cut; the JSON has all of them. No text of a side acts on a terminal."""
    return map(shown, _lines(diff))


def _lines(diff: CheckpointDiff) -> Iterator[str]:
    yield f"OLD  {_side(diff.old)}"
    yield f"NEW  {_side(diff.new)}"
    if diff.values is not None:  # which say of every tensor what headers say of some
        yield from value_lines(diff.values)
    for title, sign, changes in (
        ("added", "+", diff.added),
        ("removed", "-", diff.removed),
        ("reshaped", "~", diff.reshaped),
        ("retyped", "~", diff.retyped),
        ("changed in bytes", "~", diff.changed_bytes),
    ):
        if diff.values is None:
            yield from _tensors(title, sign, changes)
    if diff.moved and diff.values is None:
        yield from _heading(f"moved to another shard: {plural(sum(each.count for each in diff.moved), 'tensor')}")
        rows = [
            f"~ {shown(listed(each.old, most=2))} → {shown(listed(each.new, most=2))}: "
            f"{plural(each.count, 'tensor')}: {_patterns(each.patterns)}"
            for each in diff.moved
        ]
        yield from _cut(rows)
    if diff.config:
        yield from _heading(f"config.json: {plural(len(diff.config), 'field')}")
        yield from _cut(
            [
                f"{_SIGN[each.change]} {shown(each.field[:120])}: "
                + {
                    "added": quoted(each.new),
                    "removed": quoted(each.old),
                    "changed": f"{quoted(each.old)} → {quoted(each.new)}",
                }[each.change]
                for each in diff.config
            ]
        )
    figures = [each for each in diff.figures if each.old != each.new]
    if figures:
        yield from _heading("figures")
        yield from _cut(
            [
                f"~ {shown(each.name)} ({shown(each.convention)}): {_number(each.old)} → {_number(each.new)}"
                + (f" ({each.new - each.old:+,})" if each.old is not None and each.new is not None else "")
                for each in figures
            ]
        )
    yield from _findings(diff)
    if diff.values is not None:
        return
    yield ""
    if diff.same:
        yield "nothing differs of what could be compared"
    elif diff.old.fingerprint and diff.old.fingerprint == diff.new.fingerprint:
        yield "the fingerprints are the same: sizes, headers, config.json and index do not differ"
    elif diff.old.fingerprint and diff.new.fingerprint:
        yield "the fingerprints differ: sizes, header bytes, config.json or the index"
    for reason in diff.not_compared:
        yield f"not compared: {shown(reason)}"
    for reason in diff.incomplete:
        yield f"not audited: {shown(reason)}"


def _side(side: DiffSide) -> str:
    revision = f" at {shown(side.revision)}" if side.revision else ""
    return (
        f"{side.kind} {shown(side.uri)}{revision}: {side.verdict} at depth {side.depth}, "
        f"{plural(side.tensors, 'tensor')} in {plural(side.shards, 'shard')}, {size(side.payload_bytes)}"
    )


def _tensors(title: str, sign: str, changes: Sequence[TensorChange]) -> Iterator[str]:
    if not changes:
        return
    yield from _heading(f"{title}: {plural(sum(each.count for each in changes), 'tensor')}")
    rows = []
    for each in changes:
        kinds = [_kind(kind) for kind in (each.old, each.new) if kind is not None]
        rows.append(f"{sign} {' → '.join(dict.fromkeys(kinds))}: {_patterns(each.patterns)}")
    yield from _cut(rows)


def _findings(diff: CheckpointDiff) -> Iterator[str]:
    changed = [each for each in diff.findings if each.change != "known"]
    known = len(diff.findings) - len(changed)
    if not diff.findings:
        return
    tail = f", {known:,} in both" if known else ""
    yield from _heading(f"findings: {sum(each.change == 'new' for each in changed):,} new, "
                        f"{sum(each.change == 'gone' for each in changed):,} gone{tail}")  # fmt: skip
    yield from _cut(
        [
            f"{_SIGN[each.change]} {each.severity.value} {shown(each.rule)} {shown(each.slug)} "
            f"({each.count:,} of {each.of:,}): {shown(each.message)}"
            for each in changed
        ]
    )


def _heading(text: str) -> Iterator[str]:
    yield ""
    yield text


def _cut(rows: Sequence[str]) -> Iterator[str]:
    yield from (f"  {row}" for row in rows[:_ROWS])
    if len(rows) > _ROWS:
        yield f"  … and {len(rows) - _ROWS:,} more; --json has all"


def _patterns(patterns: Sequence[str]) -> str:
    return shown(listed(patterns, most=_PATTERNS))


def _kind(kind: TensorKind) -> str:
    return f"{shown(kind.dtype)} {kind.shape}"


def _number(value: int | None) -> str:
    return "not counted" if value is None else f"{value:,}"
