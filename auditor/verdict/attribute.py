"""Joins failures of one cause into one finding, with the complete list of what it affects.

A failure is a consequence of another one that takes all its tensors along: explicitly, or because it
speaks about something wider (a file, the config, a whole layer). Consequences stay in the report as
info, pointing at their cause; rules know nothing of this.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from itertools import chain, islice

from msgspec import Struct, field
from msgspec.structs import replace

from auditor.inventory.facts import Inventory
from auditor.patterns import count, patterns
from auditor.verdict.sums import causes_of_sums
from auditor_schemas.finding import Finding, Location
from auditor_schemas.rule import WEIGHT, AnyMissing, Failure, Scope, Severity, Subject

_SCOPES = tuple(Scope)
_OF_TENSORS = (Scope.TENSOR, Scope.MODULE)
# What is kept, far above what any layout within the limits needs: entries of a list, findings of a rule, values of one.
MOST, MOST_FINDINGS, MOST_VALUES = 50_000, 10_000, 1_000
# In a finding's key: what is beyond the findings that its rule may have.
_BEYOND = object()
# Failures of a rule that are held one by one: more than a release has weights with scales.
MOST_FAILURES = 50_000


class Attributed(Struct, frozen=True):
    """A finding with the tensors that are its subject, complete and by name; none where its subject is another.

    `failures` are what it was folded from, none where it was read from a report; where the subjects are not
    tensors, `prints` are the fingerprints of each failure's own.
    """

    finding: Finding
    tensors: Sequence[str]
    failures: tuple[Failure, ...] = ()
    prints: tuple[str, ...] = ()


class _Others(Struct, frozen=True):
    """What failures fold by of which no more is held than how many different ones there are."""

    count: int


class _Gathered(Struct):
    """Failures that are held as one: what they are about, take and blame together."""

    first: Failure
    one_file: bool = True
    blamed: bool = False
    tensors: list[str] = field(default_factory=list)
    takes: dict[Subject, None] = field(default_factory=dict)
    blames: list[Subject] = field(default_factory=list)

    def add(self, failure: Failure) -> None:
        self.one_file = self.one_file and failure.file == self.first.file
        self.blamed = self.blamed or bool(failure.blames)
        self.tensors += failure.tensors
        if failure.takes:
            self.takes.update(dict.fromkeys(failure.takes))
        # What blames nothing is explained by its tensors, so no cause of the others explains it with them.
        self.blames += failure.blames or failure.tensors

    def failure(self, fold: object) -> Failure:
        return replace(
            self.first,
            file=self.first.file if self.one_file else None,
            tensor=self.tensors[0],
            begin=None,
            end=None,
            tensors=tuple(self.tensors),
            takes=tuple(self.takes),
            blames=tuple(dict.fromkeys(self.blames)) if self.blamed else (),
            fold=fold,
        )


def bound_failures(failures: Iterable[Failure], most: int = MOST_FAILURES) -> list[Failure]:
    """The failures of one rule: the first ones as they are, of further ones about tensors those alike as one."""
    found = iter(failures)
    kept = list(islice(found, most))
    gathered: dict[object, _Gathered] = {}
    folds: set[int] = set()
    for each in found:
        if not each.tensors or each.rule.scope not in _OF_TENSORS:
            kept.append(each)
            continue
        group = gathered.get(each.fold)
        if group is None:
            key = each.fold
            if len(gathered) >= MOST_FINDINGS:
                key = _BEYOND
                folds.add(hash(each.fold))
            group = gathered.setdefault(key, _Gathered(each))
        group.add(each)
    kept += (them.failure(_Others(len(folds)) if key is _BEYOND else key) for key, them in gathered.items())
    return kept


def attribute(failures: Iterable[Failure], inventory: Inventory) -> tuple[Finding, ...]:
    """Findings, roots first by severity and size, then consequences."""
    return tuple(each.finding for each in trace(failures, inventory))


def trace(failures: Iterable[Failure], inventory: Inventory) -> tuple[Attributed, ...]:
    """The findings of `attribute`, each with what it was folded from."""
    ordered = sorted(failures, key=lambda each: (_SCOPES.index(each.rule.scope), -WEIGHT[each.rule.severity]))
    causes = _causes(ordered, inventory)
    groups = _group(ordered, causes)
    subjects = Subjects(inventory)
    fingerprints = {key: subjects.fingerprint(group) for key, group in groups.items()}
    found = []
    for key, group in groups.items():
        root = None if key[3] is None else fingerprints[key[3]]
        of_tensors = _kind(group[0]) == _TENSORS
        prints = () if of_tensors else tuple(subjects.fingerprint([one]) for one in group)
        affected = subjects.tensors(group)
        finding = _finding(group, inventory, affected, fingerprints[key], root, tuple(sorted(set(prints))))
        found.append(Attributed(finding, affected.names if of_tensors else (), tuple(group), prints))
    found.sort(key=_order)
    return tuple(found)


def _order(each: Attributed) -> tuple[bool, int, str, int]:
    finding = each.finding
    return (finding.caused_by is not None, -WEIGHT[finding.severity], finding.rule, -finding.count)


# Rule id, what its failures fold by, what kind of thing these are about, and the same of the root that explains them.
_Root = tuple[str, object, str, None]
_Key = tuple[str, object, str, _Root | None]


def _group(ordered: Sequence[Failure], causes: Sequence[int | None]) -> "dict[_Key, list[Failure]]":
    """The failures that are one finding: whoever excuses all that it is about, excuses each.

    What a rule yields beyond its most findings is one more, of roots and of consequences each.
    """
    groups: dict[_Key, list[Failure]] = {}
    first_root: dict[str, _Root] = {}
    counts: Counter[tuple[str, bool]] = Counter()
    moved: dict[_Root, _Root] = {}
    for of_roots in (True, False):
        for position, failure in enumerate(ordered):
            cause = causes[position]
            if (cause is None) is not of_roots:
                continue
            rule, above = failure.rule.id, None
            if cause is not None:
                by = ordered[cause]
                above = (by.rule.id, by.fold, _kind(by), None)
                above = moved.get(above, above)
            key: _Key = (rule, failure.fold, _kind(failure), above)
            if key not in groups:
                if counts[rule, of_roots] >= MOST_FINDINGS:
                    above = None if above is None else first_root.setdefault(rule, above)
                    beyond = (rule, _BEYOND, _kind(failure), above)
                    if above is None:
                        moved[rule, failure.fold, _kind(failure), None] = (rule, _BEYOND, _kind(failure), None)
                    key = beyond
                else:
                    counts[rule, of_roots] += 1
            groups.setdefault(key, []).append(failure)
    return groups


def _kind(failure: Failure) -> str:
    if failure.tensors and not (failure.field and failure.rule.scope == Scope.CONFIG):
        return _TENSORS
    return "field" if failure.field else "file"


def _causes(ordered: Sequence[Failure], inventory: Inventory) -> list[int | None]:
    """For each failure the position of the failure that explains it, followed to the root."""
    takers = _Takers(ordered, inventory)
    causes = [_cause(position, failure, ordered, takers) for position, failure in enumerate(ordered)]
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


class _Takers:
    """The failures that take a subject along: of each rule the first, which stands for the others."""

    def __init__(self, ordered: Sequence[Failure], inventory: Inventory) -> None:
        self._inventory = inventory  # its tensors are made for who asks, which a sound checkpoint does not
        self._of: dict[Subject, tuple[int, ...]] = {}
        for position, failure in enumerate(ordered):
            alone = (position,)
            for taken in failure.takes:
                before = self._of.setdefault(taken, alone)
                if before is not alone and all(ordered[each].rule.id != failure.rule.id for each in before):
                    self._of[taken] = (*before, position)
        self._lost = self._of.get(AnyMissing(), ())

    def of(self, subject: Subject) -> tuple[int, ...]:
        """Their positions, first those of files of which nothing is known."""
        takers = self._of.get(subject, ())
        if self._lost and isinstance(subject, str) and subject not in self._inventory.tensors:
            return self._lost + takers
        return takers


def _cause(position: int, failure: Failure, ordered: Sequence[Failure], takers: _Takers) -> int | None:
    if failure.rule.severity == Severity.INFO:
        return None
    # What a rule says of a file is a defect of its own, unless it blames what made the file unreadable.
    subjects = failure.blames or (() if failure.rule.scope == Scope.FILE else failure.tensors)
    shared: int | None = None
    own = frozenset(failure.takes) if len(failure.takes) > 1 else failure.takes
    explained: dict[tuple[int, ...], int | None] = {}  # by who takes a subject, as many are taken by the same
    for subject in subjects:
        them = takers.of(subject)
        if them not in explained:
            explained[them] = next((each for each in them if _explains(each, position, ordered, own)), None)
        found = explained[them]
        if found is None:
            return None
        shared = found if shared is None else min(shared, found)
    return shared


def _explains(cause: int, position: int, ordered: Sequence[Failure], takes: Container[Subject]) -> bool:
    """Whether one failure may explain another: a different rule, no milder, and not explained by it in turn.

    `takes` are the other's.
    """
    one, other = ordered[cause], ordered[position]
    if one.rule.id == other.rule.id or (_is_of_values(other) and not _is_of_values(one) and not other.blames):
        return False
    if WEIGHT[one.rule.severity] < WEIGHT[other.rule.severity]:
        return False
    narrower = _SCOPES.index(one.rule.scope) > _SCOPES.index(other.rule.scope)
    mutual = cause > position and any(name in takes for name in one.tensors[:1])
    return not narrower and not mutual


class _Tensors(Struct, frozen=True):
    """The tensors that failures are about, sorted, and as patterns."""

    names: Sequence[str]
    patterns: tuple[str, ...]


def _finding(
    group: Sequence[Failure],
    inventory: Inventory,
    tensors: _Tensors,
    fingerprint: str,
    caused_by: str | None,
    members: tuple[str, ...],
) -> Finding:
    first = group[0]
    rule = first.rule
    by_file = rule.scope in (Scope.FILE, Scope.CONFIG, Scope.COUNT)
    more_files = sorted({failure.file for failure in group if failure.file}) if by_file and len(group) > 1 else []
    affected = (*more_files, *tensors.patterns)
    kept = affected[:MOST]
    return Finding(
        rule=rule.id,
        slug=rule.slug,
        severity=rule.severity if caused_by is None else Severity.INFO,
        message=_message(group),
        location=_location(first, inventory),
        expected=_few(_by_file(group, "expected") if more_files else first.expected),
        actual=_few(_by_file(group, "actual") if more_files else first.actual),
        count=len(group) if by_file or not tensors.names else len(tensors.names),
        affected=kept,
        affected_files=min(len(more_files), MOST),
        caused_by=caused_by,
        fingerprint=fingerprint,
        members=members[:MOST],
        more=len(members[MOST:]) + len(more_files[MOST:]) + sum(map(count, affected[max(MOST, len(more_files)) :])),
    )


def _message(group: Sequence[Failure]) -> str:
    """The first failure's; of what is beyond a rule's findings, with how many others there are."""
    folds = {failure.fold for failure in group}
    others = sum(each.count if isinstance(each, _Others) else 1 for each in folds) - 1
    beside = f"; beyond {MOST_FINDINGS:,} findings of this rule, {others:,} others" if others else ""
    return f"{group[0].message}{beside}"


def _few(value: object) -> object:
    """A value as it is, or its first parts and how many there are."""
    if isinstance(value, dict) and len(value) > MOST_VALUES:
        return {**dict(islice(value.items(), MOST_VALUES)), "…": f"{len(value) - MOST_VALUES:,} more"}
    if isinstance(value, list | tuple) and len(value) > MOST_VALUES:
        return [*value[:MOST_VALUES], f"… {len(value) - MOST_VALUES:,} more"]
    return value


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


class Subjects:
    """What failures are about, and its kind: nothing of it changes when shards are renamed."""

    def __init__(self, inventory: Inventory) -> None:
        self._shards = {shard.path: shard for shard in inventory.shards}
        self._held: dict[tuple[str, tuple[str, ...]], str] = {}
        self._tensors: dict[frozenset[str], _Tensors] = {}

    def fingerprint(self, group: Sequence[Failure]) -> str:
        """SHA-256 of rule, kind of subject and subject, without the values seen."""
        rule, files = group[0].rule.id, _files(group)
        # A file's tensors are spelled out once, however many failures speak of the file.
        by_files = _kind(group[0]) == "file" and not any(failure.takes for failure in group)
        if by_files and (rule, files) in self._held:
            return self._held[rule, files]
        canonical = json.dumps([rule, *self.of(group)], separators=(",", ":"), ensure_ascii=True)
        found = hashlib.sha256(canonical.encode()).hexdigest()
        if by_files:
            self._held[rule, files] = found
        return found

    def of(self, group: Sequence[Failure]) -> tuple[str, Sequence[str]]:
        """The kind and the subjects of failures that are one finding."""
        kind = _kind(group[0])
        if kind == _TENSORS:
            return kind, self.tensors(group).names
        if kind == "field":
            return kind, sorted({failure.field for failure in group if failure.field})
        taken = {each for failure in group for each in failure.takes if isinstance(each, str)}
        if not taken:
            # A file is known by the tensors it holds, so it stays the same under another name.
            taken = {name for path in _files(group) if path in self._shards for name in self._shards[path].tensors}
        return ("tensors of a file", sorted(taken)) if taken else ("file", _files(group))

    def tensors(self, group: Sequence[Failure]) -> _Tensors:
        """The tensors of failures that are one finding, put in order once where several findings are about them."""
        names = frozenset(chain.from_iterable(failure.tensors for failure in group))
        if names not in self._tensors:
            ordered = sorted(names)
            self._tensors[names] = _Tensors(ordered, patterns(ordered))
        return self._tensors[names]


def _files(group: Sequence[Failure]) -> tuple[str, ...]:
    return tuple(sorted({failure.file for failure in group if failure.file}))
