"""Joins failures of one cause into one finding, with the complete list of what it affects.

A failure is a consequence of another one that takes all its tensors along: explicitly, or because it
speaks about something wider (a file, the config, a whole layer). Consequences stay in the report as
info, pointing at their cause; rules know nothing of this.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from auditor.facts import Inventory, Shard
from auditor.names import patterns
from auditor_schemas.finding import Finding, Location
from auditor_schemas.rule import AnyMissing, Failure, Scope, Severity, Subject

_SCOPES = tuple(Scope)
_WEIGHT = {Severity.ERROR: 2, Severity.WARNING: 1, Severity.INFO: 0}


@dataclass(frozen=True, slots=True)
class Attributed:
    """A finding with the tensors that are its subject, complete and by name; none where its subject is another.

    `failures` are what it was folded from, none where it was read from a report; where the subjects are not
    tensors, `prints` are the fingerprints of each failure's own.
    """

    finding: Finding
    tensors: Sequence[str]
    failures: tuple[Failure, ...] = ()
    prints: tuple[str, ...] = ()


def attribute(failures: Iterable[Failure], inventory: Inventory) -> tuple[Finding, ...]:
    """Findings, roots first by severity and size, then consequences."""
    return tuple(each.finding for each in traced(failures, inventory))


def traced(failures: Iterable[Failure], inventory: Inventory) -> tuple[Attributed, ...]:
    """The findings of `attribute`, each with what it was folded from."""
    ordered = sorted(failures, key=_precedence)
    causes = _causes(ordered, inventory)
    groups: dict[_Key, list[Failure]] = {}
    for failure, cause in zip(ordered, causes, strict=True):
        groups.setdefault(_key(failure, None if cause is None else ordered[cause]), []).append(failure)
    shards = {shard.path: shard for shard in inventory.shards}
    subjects = {key: _subject(group, shards) for key, group in groups.items()}
    fingerprints = {key: _fingerprint(group[0], *subjects[key]) for key, group in groups.items()}
    found = []
    for key, group in groups.items():
        kind, subject = subjects[key]
        root = None if key[2] is None else fingerprints[key[2]]
        prints = () if kind == _TENSORS else tuple(_fingerprint(one, *_subject([one], shards)) for one in group)
        finding = _finding(group, inventory, fingerprints[key], root, tuple(sorted(set(prints))))
        found.append(Attributed(finding, subject if kind == _TENSORS else (), tuple(group), prints))
    found.sort(key=_order)
    return tuple(found)


def _order(each: Attributed) -> tuple[bool, int, str, int]:
    finding = each.finding
    return (finding.caused_by is not None, -_WEIGHT[finding.severity], finding.rule, -finding.count)


# Rule id, what its failures fold by, and the same of the root that explains them.
_Key = tuple[str, object, "tuple[str, object, None] | None"]


def _key(failure: Failure, cause: Failure | None) -> _Key:
    root = None if cause is None else (cause.rule.id, cause.fold, None)
    return (failure.rule.id, failure.fold, root)


def _precedence(failure: Failure) -> tuple[int, int]:
    return (_SCOPES.index(failure.rule.scope), -_WEIGHT[failure.rule.severity])


def _causes(ordered: Sequence[Failure], inventory: Inventory) -> list[int | None]:
    """For each failure the position of the failure that explains it, followed to the root."""
    wider: dict[Subject, list[int]] = {}
    for position, failure in enumerate(ordered):
        for taken in failure.takes:
            wider.setdefault(taken, []).append(position)
    causes = [_cause(position, failure, ordered, wider, inventory) for position, failure in enumerate(ordered)]
    for position in range(len(causes)):
        # Failures may explain each other in a circle: the first of them is the root of all.
        if _leads_to(position, causes):
            causes[position] = None
    changing = next(
        (
            position
            for position, failure in enumerate(ordered)
            if causes[position] is None and failure.rule.scope != Scope.COUNT
            if (failure.tensors or failure.takes) and failure.rule.severity != Severity.INFO
        ),
        None,
    )
    for position, failure in enumerate(ordered):
        # Sums follow from tensors: where a tensor is wrong, a wrong sum says nothing of its own.
        if failure.rule.scope == Scope.COUNT and failure.rule.severity != Severity.INFO and causes[position] is None:
            causes[position] = changing
    return [_root(cause, causes) for cause in causes]


def _cause(
    position: int, failure: Failure, ordered: Sequence[Failure], wider: dict[Subject, list[int]], inventory: Inventory
) -> int | None:
    if failure.rule.severity == Severity.INFO:
        return None
    # What a rule says of a file is a defect of its own, unless it blames what made the file unreadable.
    subjects = failure.blames or (() if failure.rule.scope == Scope.FILE else failure.tensors)
    lost = wider.get(AnyMissing(), [])
    shared: int | None = None
    for subject in subjects:
        takers = wider.get(subject, [])
        if lost and isinstance(subject, str) and subject not in inventory.tensors:
            takers = lost + takers
        found = next((each for each in takers if _explains(each, position, ordered)), None)
        if found is None:
            return None
        shared = found if shared is None else min(shared, found)
    return shared


def _explains(cause: int, position: int, ordered: Sequence[Failure]) -> bool:
    """Whether one failure may explain another: a different rule, no milder, and not explained by it in turn."""
    one, other = ordered[cause], ordered[position]
    if one.rule.id == other.rule.id or _WEIGHT[one.rule.severity] < _WEIGHT[other.rule.severity]:
        return False
    narrower = _SCOPES.index(one.rule.scope) > _SCOPES.index(other.rule.scope)
    mutual = cause > position and any(name in other.takes for name in one.tensors[:1])
    return not narrower and not mutual


def _leads_to(position: int, causes: Sequence[int | None]) -> bool:
    """Whether the way up from a failure comes back to it."""
    seen = set()
    cause = causes[position]
    while cause is not None and cause not in seen and cause != position:
        seen.add(cause)
        cause = causes[cause]
    return cause == position


def _root(cause: int | None, causes: Sequence[int | None]) -> int | None:
    while cause is not None and causes[cause] is not None:
        cause = causes[cause]
    return cause


def _finding(
    group: Sequence[Failure], inventory: Inventory, fingerprint: str, caused_by: str | None, members: tuple[str, ...]
) -> Finding:
    first = group[0]
    rule = first.rule
    names = list(dict.fromkeys(name for failure in group for name in failure.tensors))
    by_file = rule.scope in (Scope.FILE, Scope.CONFIG, Scope.COUNT)
    more_files = sorted({failure.file for failure in group if failure.file}) if by_file and len(group) > 1 else []
    return Finding(
        rule=rule.id,
        slug=rule.slug,
        severity=rule.severity if caused_by is None else Severity.INFO,
        message=first.message,
        location=_location(first, inventory),
        expected=_by_file(group, "expected") if more_files else first.expected,
        actual=_by_file(group, "actual") if more_files else first.actual,
        count=len(group) if by_file or not names else len(names),
        affected=(*more_files, *patterns(names)),
        affected_files=len(more_files),
        caused_by=caused_by,
        fingerprint=fingerprint,
        members=members,
    )


def _by_file(group: Sequence[Failure], side: str) -> object:
    """The values of failures in several files, by file; one value where all have the same."""
    values = {failure.file or "": getattr(failure, side) for failure in group}
    return getattr(group[0], side) if len({repr(value) for value in values.values()}) == 1 else values


def _location(failure: Failure, inventory: Inventory) -> Location:
    file, span = failure.file, None
    if failure.begin is not None and failure.end is not None:
        span = (failure.begin, failure.end)
    tensor = failure.tensor or (failure.tensors[0] if len(failure.tensors) == 1 else None)
    if tensor is not None and span is None:
        shard = inventory.shard_of(tensor)
        if shard is not None and file in (None, shard.path):
            begin, end = shard.span(tensor)
            file, span = shard.path, (begin, end) if begin <= end else None
    if file is None and tensor is not None and inventory.index is not None:
        file = inventory.index.weight_map.get(tensor)
    return Location(file=file, tensor=tensor, field=failure.field, bytes=span)


_TENSORS = "tensors"


def _subject(group: Sequence[Failure], shards: Mapping[str, Shard]) -> tuple[str, list[str]]:
    """What failures are about, and its kind: nothing of it changes when shards are renamed."""
    names = sorted({name for failure in group for name in failure.tensors})
    fields = sorted({failure.field for failure in group if failure.field})
    files = sorted({failure.file for failure in group if failure.file})
    if fields and group[0].rule.scope == Scope.CONFIG:
        return "field", fields
    if names:
        return _TENSORS, names
    if fields:
        return "field", fields
    taken = {each for failure in group for each in failure.takes if isinstance(each, str)}
    if not taken:
        # A file is known by the tensors it holds, so it stays the same under another name.
        taken = {name for path in files if path in shards for name in shards[path].tensors}
    return ("tensors of a file", sorted(taken)) if taken else ("file", files)


def _fingerprint(first: Failure, kind: str, subject: list[str]) -> str:
    """SHA-256 of rule, kind of subject and subject, without the values seen."""
    canonical = json.dumps([first.rule.id, kind, subject], separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
