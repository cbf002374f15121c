"""What changed between two checkpoints or two reports: tensors, config fields, figures and findings."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import SourceError
from auditor.gather import Evidence, Subject
from auditor.inventory.facts import Inventory
from auditor.patterns import count, expand, expand_file, patterns
from auditor.reporting.saved import read_report
from auditor.run import Terms, conduct
from auditor.text import shown, shown_json
from auditor.verdict.attribute import Attributed
from auditor.verdict.baseline import Baseline, tensors_of
from auditor.version import __version__
from auditor_schemas.defaults import LIMITS
from auditor_schemas.diff import (
    CheckpointDiff,
    DiffSide,
    FieldChange,
    FigureChange,
    FindingChange,
    TensorChange,
    TensorKind,
    TensorMove,
)
from auditor_schemas.inventory import LayoutRow
from auditor_schemas.report import AuditReport, Tool

_Kind = tuple[str, tuple[int, ...]]  # dtype and shape
_Files = tuple[str, ...]  # the shards that may hold a tensor; one where it is known


@dataclass(frozen=True, slots=True)
class Side:
    """One side: its report, every tensor, and config and digests where they are known."""

    label: str
    report: AuditReport
    tensors: Mapping[str, tuple[_Kind, _Files]]
    config: Mapping[str, Any] | None
    digests: Mapping[str, str] | None
    is_report: bool


def compare(old: str, new: str) -> CheckpointDiff:
    """The difference between two SOURCEs or reports. Raises SourceError where a side cannot be read."""
    return difference(read_side(old, "OLD"), read_side(new, "NEW"))


def read_side(path: str, label: str) -> Side:
    """A report where the path is a file, else a checkpoint, which is audited at depth headers."""
    if Path(path).is_file():
        return reported(read_report(path), label, path)
    return read_evidence(path, label)[1]


def read_evidence(path: str, label: str) -> tuple[Evidence, Side]:
    """A checkpoint as a side, with what was read of it."""
    evidence, report = conduct(Subject(source=path), Terms())
    fields = evidence.configuration.fields
    flat = None if fields is None else dict(_flat(fields))
    return evidence, Side(label, report, _tensors_of(evidence.inventory), flat, None, False)


def written(diff: CheckpointDiff) -> str:
    """A difference as JSON; of values only where these were compared."""
    return shown_json(diff.model_dump_json(indent=2, exclude=None if diff.values is not None else {"values"})) + "\n"


def reported(report: AuditReport, label: str, name: str) -> Side:
    """A report as a side; `name` is what it is called in errors. Raises SourceError where it cannot be compared."""
    return Side(label, report, _laid_out(report, name), None, _digests(report, name), True)


def difference(old: Side, new: Side) -> CheckpointDiff:
    """Everything that differs between two sides, and what could not be compared."""
    both = [name for name in new.tensors if name in old.tensors]
    changed = [name for name in both if old.tensors[name][0] != new.tensors[name][0]]
    moved, unplaced = _moves(old, new, both)
    added = _changes((name for name in new.tensors if name not in old.tensors), None, new)
    removed = _changes((name for name in old.tensors if name not in new.tensors), old, None)
    reshaped = _changes((n for n in changed if old.tensors[n][0][1] != new.tensors[n][0][1]), old, new)
    # What changed in both is listed once: the row has both dtypes and both shapes.
    retyped = _changes((n for n in changed if old.tensors[n][0][1] == new.tensors[n][0][1]), old, new)
    alike = (name for name in both if old.tensors[name][0] == new.tensors[name][0])
    rewritten = _changes(_find_rewritten(alike, old, new), old, new)
    config = () if old.config is None or new.config is None else tuple(_fields(old.config, new.config))
    figures = tuple(_figures(old.report, new.report))
    findings = tuple(_findings(old, new))
    one, other = _describe(old), _describe(new)
    prints = (one.fingerprint, other.fingerprint)
    mirrored = None not in prints and prints[0] == prints[1]
    same = not (
        any((added, removed, reshaped, retyped, moved, rewritten, config))
        or any(each.old != each.new for each in figures)
        or any(each.change != "known" for each in findings)
        or (None not in prints and not mirrored)
        or (one.content_sha256 and other.content_sha256 and one.content_sha256 != other.content_sha256)
    )
    return CheckpointDiff(
        tool=Tool(name="auditor", version=__version__),
        old=one,
        new=other,
        same=same,
        added=added,
        removed=removed,
        reshaped=reshaped,
        retyped=retyped,
        moved=moved,
        changed_bytes=rewritten,
        bytes_compared=old.digests is not None and new.digests is not None,
        config=config,
        config_compared=mirrored or (old.config is not None and new.config is not None),
        figures=figures,
        findings=findings,
        not_compared=tuple(_not_compared(old, new, unplaced, mirrored)),
        incomplete=tuple(f"{side.label}: {reason}" for side in (old, new) for reason in side.report.incomplete),
    )


def _describe(side: Side) -> DiffSide:
    report = side.report
    return DiffSide(
        kind="report" if side.is_report else "checkpoint",
        uri=report.source.uri,
        revision=report.source.revision,
        fingerprint=report.source.fingerprint,
        family=report.family,
        depth=report.run.depth,
        verdict=report.verdict,
        tensors=report.inventory.tensors,
        shards=report.inventory.shards,
        payload_bytes=report.inventory.payload_bytes,
        content_sha256=report.content_digest.sha256 if report.content_digest else None,
    )


# --- the sides ---


def _tensors_of(inventory: Inventory) -> dict[str, tuple[_Kind, _Files]]:
    tensors: dict[str, tuple[_Kind, _Files]] = {}
    for shard in inventory.parts:
        files = (shard.path,)
        tensors.update((name, ((each.dtype, each.shape), files)) for name, each in shard.tensors.items())
    return tensors


def _laid_out(report: AuditReport, path: str) -> dict[str, tuple[_Kind, _Files]]:
    """Every tensor of a report's layout; the report may be anybody's, so its patterns are bounded."""
    if report.left_out.get("layout"):
        more = report.left_out["layout"]
        raise SourceError(f"{shown(path)}: leaves out {more:,} patterns of its tensors: compare the checkpoint itself")
    _refuse_more(sum(count(row.pattern) for row in report.layout), path)
    tensors: dict[str, tuple[_Kind, _Files]] = {}
    for row in report.layout:
        value = ((row.dtype, row.shape), _files(row))
        # Before braces of names were escaped, a name that held some stood for itself.
        names = (row.pattern,) if row.count == 1 and count(row.pattern) != 1 else expand(row.pattern)
        tensors.update((name, value) for name in names)
    return tensors


def _files(row: LayoutRow) -> _Files:
    found: list[str] = []
    for pattern in row.files:
        found += expand_file(pattern, LIMITS["shards"] - len(found))
        if len(found) >= LIMITS["shards"]:
            break
    return tuple(found)


def _digests(report: AuditReport, path: str) -> dict[str, str] | None:
    if report.content_digest is None:
        return None
    digests: dict[str, str] = {}
    for row in report.content_digest.tensors:
        covered, there = count(row.pattern), len(row.xxh3_128)
        if covered != there and there != 1:
            pattern = shown(row.pattern[:80])
            raise SourceError(f"{shown(path)}: {pattern} names {covered:,} tensors, has {there:,} digests")
        names = expand(row.pattern) if covered == there else (row.pattern,)
        digests.update(zip(names, row.xxh3_128, strict=True))
    return digests


def _refuse_more(total: int, path: str) -> None:
    if total > LIMITS["tensors"]:
        raise SourceError(f"{shown(path)}: names {total:,} tensors, limit {LIMITS['tensors']:,}")


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in fields.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# --- the comparison ---


def _changes(names: Iterable[str], old: Side | None, new: Side | None) -> tuple[TensorChange, ...]:
    """The names grouped by what they were and are, most first."""
    groups: dict[tuple[_Kind | None, _Kind | None], list[str]] = {}
    for name in names:
        kinds = (None if old is None else old.tensors[name][0], None if new is None else new.tensors[name][0])
        groups.setdefault(kinds, []).append(name)
    changes = [
        TensorChange(patterns=patterns(them), count=len(them), old=_kind(before), new=_kind(after))
        for (before, after), them in groups.items()
    ]
    return tuple(sorted(changes, key=lambda each: (-each.count, each.patterns)))


def _kind(kind: _Kind | None) -> TensorKind | None:
    return None if kind is None else TensorKind(dtype=kind[0], shape=kind[1])


def _moves(old: Side, new: Side, both: Iterable[str]) -> tuple[tuple[TensorMove, ...], int]:
    """Tensors that are in another shard, and of how many that is not known: reports place rows, not tensors."""
    # Tensors of a row share one list of files: it is compared once, however many there are.
    alike: dict[tuple[int, int], tuple[_Files, _Files, list[str]]] = {}
    for name in both:
        before, after = old.tensors[name][1], new.tensors[name][1]
        alike.setdefault((id(before), id(after)), (before, after, []))[2].append(name)
    groups: dict[tuple[_Files, _Files], list[str]] = {}
    for before, after, names in alike.values():
        if len(before) > 1 or before != after:
            groups.setdefault((before, after), []).extend(names)
    moves, unknown = [], 0
    for (before, after), names in groups.items():
        if set(before).isdisjoint(after):
            moves.append(TensorMove(patterns=patterns(names), count=len(names), old=before, new=after))
        else:
            unknown += len(names)
    return tuple(sorted(moves, key=lambda each: (each.old, each.new))), unknown


def _find_rewritten(names: Iterable[str], old: Side, new: Side) -> Iterator[str]:
    if old.digests is None or new.digests is None:
        return
    for name in names:
        before, after = old.digests.get(name), new.digests.get(name)
        if before is not None and after is not None and before != after:
            yield name


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[FieldChange]:
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield FieldChange(field=name, change="added", new=new[name])
        elif name not in new:
            yield FieldChange(field=name, change="removed", old=old[name])
        elif old[name] != new[name] or type(old[name]) is not type(new[name]):
            yield FieldChange(field=name, change="changed", old=old[name], new=new[name])


def _figures(old: AuditReport, new: AuditReport) -> Iterator[FigureChange]:
    before, after = (
        {(figure.name, each.convention): each.parameters for figure in report.figures for each in figure.counts}
        for report in (old, new)
    )
    for name, convention in dict.fromkeys((*before, *after)):
        key = (name, convention)
        yield FigureChange(name=name, convention=convention, old=before.get(key), new=after.get(key))


def _findings(old: Side, new: Side) -> Iterator[FindingChange]:
    """The roots of the new side, new or known, then those of the old side that are gone."""
    before = [each.model_copy(update={"status": "new"}) for each in old.report.findings]
    earlier = Baseline(before, name=f"report {old.label}", family=None, sha256=None, most=LIMITS["tensors"])
    found = []
    for finding in new.report.findings:
        _refuse_more(sum(map(count, finding.patterns)), new.label)
        found.append(Attributed(finding, () if finding.members else tuple(tensors_of(finding))))
    for each in found:
        finding = each.finding
        if finding.caused_by is None:
            unknown = earlier.unknown(each)
            yield FindingChange(
                change="new" if unknown else "known",
                rule=finding.rule,
                slug=finding.slug,
                severity=finding.severity,
                message=finding.message,
                fingerprint=finding.fingerprint,
                count=len(unknown),
                of=len(finding.members or each.tensors) or 1,
            )
    for gone in earlier.gone(found, new.report.outcomes):
        yield FindingChange(change="gone", **gone.model_dump())


def _not_compared(old: Side, new: Side, unplaced: int, mirrored: bool) -> Iterator[str]:
    for side in (old, new):
        if side.digests is None:
            yield f"the tensors' bytes: {_without_digests(side)}"
    if mirrored:  # by their fingerprints config.json, index and headers are the same
        return
    fieldless = [side for side in (old, new) if side.config is None]
    if fieldless:
        why = " and ".join(
            f"{side.label} is a report, which does not hold them"
            if side.is_report
            else f"the config.json of {side.label} could not be read"
            for side in fieldless
        )
        yield f"config.json fields: {why}"
    if unplaced:
        yield f"the shards of {unplaced:,} tensors: a report names the shards of a row together, not of each tensor"


def _without_digests(side: Side) -> str:
    if not side.is_report:
        return f"of {side.label} headers alone are read here; a report of depth full has digests"
    return f"{side.label} was audited at depth {side.report.run.depth} and has no digests"
