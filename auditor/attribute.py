"""Joins failures of one cause into one finding, with the complete list of what it affects.

A failure is a consequence of another one that takes all its tensors along: explicitly, or because it
speaks about something wider (a file, the config, a whole layer). Consequences stay in the report as
info, pointing at their cause; rules know nothing of this.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence

from auditor.facts import ANY_MISSING, Inventory
from auditor.names import patterns
from auditor_schemas.report import Finding, Location
from auditor_schemas.rule import Failure, Scope, Severity

_SCOPES = tuple(Scope)
_WEIGHT = {Severity.ERROR: 2, Severity.WARNING: 1, Severity.INFO: 0}


def attribute(failures: Iterable[Failure], inventory: Inventory) -> tuple[Finding, ...]:
    """Findings, roots first by severity and size, then consequences."""
    ordered = sorted(failures, key=_precedence)
    causes = _causes(ordered, inventory)
    groups: dict[_Key, list[Failure]] = {}
    for failure, cause in zip(ordered, causes, strict=True):
        groups.setdefault(_key(failure, None if cause is None else ordered[cause]), []).append(failure)
    fingerprints = {key: _fingerprint(group) for key, group in groups.items()}
    findings = [
        _finding(group, inventory, fingerprints[key], None if key[2] is None else fingerprints[key[2]])
        for key, group in groups.items()
    ]
    findings.sort(key=lambda each: (each.caused_by is not None, -_WEIGHT[each.severity], each.rule, -each.count))
    return tuple(findings)


# Rule id, what its failures fold by, and the same of the root that explains them.
_Key = tuple[str, object, "tuple[str, object, None] | None"]


def _key(failure: Failure, cause: Failure | None) -> _Key:
    root = None if cause is None else (cause.rule.id, cause.fold, None)
    return (failure.rule.id, failure.fold, root)


def _precedence(failure: Failure) -> tuple[int, int]:
    return (_SCOPES.index(failure.rule.scope), -_WEIGHT[failure.rule.severity])


def _causes(ordered: Sequence[Failure], inventory: Inventory) -> list[int | None]:
    """For each failure the position of the failure that explains it, followed to the root."""
    wider: dict[str, list[int]] = {}
    for position, failure in enumerate(ordered):
        for name in failure.takes:
            wider.setdefault(name, []).append(position)
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
    position: int, failure: Failure, ordered: Sequence[Failure], wider: dict[str, list[int]], inventory: Inventory
) -> int | None:
    if failure.rule.severity == Severity.INFO:
        return None
    # What a rule says of a file is a defect of its own, unless it blames what made the file unreadable.
    subjects = failure.blames or (() if failure.rule.scope == Scope.FILE else failure.tensors)
    lost = wider.get(ANY_MISSING, [])
    shared: int | None = None
    for subject in subjects:
        takers = wider.get(subject, [])
        if lost and not subject.startswith(("file:", "blocks:")) and subject not in inventory.tensors:
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


def _finding(group: Sequence[Failure], inventory: Inventory, fingerprint: str, caused_by: str | None) -> Finding:
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
        caused_by=caused_by,
        fingerprint=fingerprint,
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


def _fingerprint(group: Sequence[Failure]) -> str:
    """SHA-256 of rule, kind of subject and subject, without the values seen: renaming shards keeps it."""
    names = sorted({name for failure in group for name in failure.tensors})
    fields = sorted({failure.field for failure in group if failure.field})
    files = sorted({failure.file for failure in group if failure.file})
    if fields and group[0].rule.scope == Scope.CONFIG:
        kind, subject = "field", fields
    elif names:
        kind, subject = "tensors", names
    elif fields:
        kind, subject = "field", fields
    else:
        taken = sorted({n for f in group for n in f.takes if n != ANY_MISSING and not n.startswith("file:")})
        kind, subject = ("tensors of a file", taken) if taken else ("file", files)
    canonical = json.dumps([group[0].rule.id, kind, subject], separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
