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
from auditor.sums import causes_of_sums
from auditor_schemas.finding import Finding, Location
from auditor_schemas.rule import WEIGHT, AnyMissing, Failure, Scope, Severity, Subject

_SCOPES = tuple(Scope)


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
        root = None if key[3] is None else fingerprints[key[3]]
        prints = () if kind == _TENSORS else tuple(_fingerprint(one, *_subject([one], shards)) for one in group)
        finding = _finding(group, inventory, fingerprints[key], root, tuple(sorted(set(prints))))
        found.append(Attributed(finding, subject if kind == _TENSORS else (), tuple(group), prints))
    found.sort(key=_order)
    return tuple(found)


def _order(each: Attributed) -> tuple[bool, int, str, int]:
    finding = each.finding
    return (finding.caused_by is not None, -WEIGHT[finding.severity], finding.rule, -finding.count)


# Rule id, what its failures fold by, what kind of thing these are about, and the same of the root that explains them.
_Key = tuple[str, object, str, "tuple[str, object, str, None] | None"]


def _key(failure: Failure, cause: Failure | None) -> _Key:
    """What failures have in common that are one finding: whoever excuses all that it is about, excuses each."""
    root = None if cause is None else (cause.rule.id, cause.fold, _kind(cause), None)
    return (failure.rule.id, failure.fold, _kind(failure), root)


def _kind(failure: Failure) -> str:
    if failure.tensors and not (failure.field and failure.rule.scope == Scope.CONFIG):
        return _TENSORS
    return "field" if failure.field else "file"


def _precedence(failure: Failure) -> tuple[int, int]:
    return (_SCOPES.index(failure.rule.scope), -WEIGHT[failure.rule.severity])


def _causes(ordered: Sequence[Failure], inventory: Inventory) -> list[int | None]:
    """For each failure the position of the failure that explains it, followed to the root."""
    wider: dict[Subject, list[int]] = {}
    for position, failure in enumerate(ordered):
        for taken in failure.takes:
            wider.setdefault(taken, []).append(position)
    causes = [_cause(position, failure, ordered, wider, inventory) for position, failure in enumerate(ordered)]
    roots = _roots(causes)
    for position, cause in causes_of_sums(ordered, roots, inventory).items():
        if roots[position] is None:
            roots[position] = cause
    return roots


def _is_of_values(failure: Failure) -> bool:
    """Whether a failure speaks of what tensors hold: no wrong shape, name or scale makes a value NaN."""
    return failure.rule.id.startswith("VAL")


def _roots(causes: Sequence[int | None]) -> list[int | None]:
    """For each failure the one at the top of the way up, None for that one itself.

    Failures may explain each other in a circle: the first of them is the root of all.
    """
    tops: dict[int, int] = {}
    for position in range(len(causes)):
        at = position
        way: dict[int, None] = {}
        while at not in tops and at not in way:
            way[at] = None
            above = causes[at]
            if above is None:
                break
            at = above
        if at in tops:
            top = tops[at]
        elif causes[at] is None:
            top = at
        else:
            circle = list(way)
            top = min(circle[circle.index(at) :])
        tops.update(dict.fromkeys(way, top))
    return [None if tops[position] == position else tops[position] for position in range(len(causes))]


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
    if one.rule.id == other.rule.id or (_is_of_values(other) and not _is_of_values(one) and not other.blames):
        return False
    if WEIGHT[one.rule.severity] < WEIGHT[other.rule.severity]:
        return False
    narrower = _SCOPES.index(one.rule.scope) > _SCOPES.index(other.rule.scope)
    mutual = cause > position and any(name in other.takes for name in one.tensors[:1])
    return not narrower and not mutual


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
    kind = _kind(group[0])
    if kind == _TENSORS:
        return kind, sorted({name for failure in group for name in failure.tensors})
    if kind == "field":
        return kind, sorted({failure.field for failure in group if failure.field})
    files = sorted({failure.file for failure in group if failure.file})
    taken = {each for failure in group for each in failure.takes if isinstance(each, str)}
    if not taken:
        # A file is known by the tensors it holds, so it stays the same under another name.
        taken = {name for path in files if path in shards for name in shards[path].tensors}
    return ("tensors of a file", sorted(taken)) if taken else ("file", files)


def _fingerprint(first: Failure, kind: str, subject: list[str]) -> str:
    """SHA-256 of rule, kind of subject and subject, without the values seen."""
    canonical = json.dumps([first.rule.id, kind, subject], separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
