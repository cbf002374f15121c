"""Waivers: which members of a finding a policy excuses today, and what became of each waiver. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from auditor.format.entries import Index
from auditor.globs import literal_start, matcher
from auditor.verdict.attribute import Attributed
from auditor_schemas.finding import Waiver, WaiverUse
from auditor_schemas.policy import WaiverRule
from auditor_schemas.report import RuleOutcome
from auditor_schemas.rule import Rule


@dataclass(frozen=True, slots=True)
class Member:
    """One thing that a finding is about: a tensor, a file, a config field, or several of these at once.

    `key` is what a baseline knows it by: the tensor's name, or a fingerprint.
    """

    key: str
    tensor: str | None
    file: str | None
    field: str | None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.tensor or self.field or self.file or "the checkpoint"


def members(found: Attributed, files: "Files") -> Iterator[Member]:
    """Everything that a finding is about, one by one."""
    if found.tensors:
        by_name: dict[str, Member] = {}
        for failure in found.failures:
            for name in failure.tensors:
                by_name.setdefault(name, Member(name, name, failure.file or files.of(name), failure.field))
        yield from by_name.values()
    else:
        for failure, key in zip(found.failures, found.prints, strict=True):
            yield Member(key, None, failure.file, failure.field)


class Files:
    """Which file holds a tensor, or should by the index; worked out for waivers and baselines alone."""

    def __init__(self, placed: Iterable[tuple[str, Iterable[str]]], index: Index | None = None) -> None:
        self._placed, self._index = placed, index
        self._files: dict[str, str] | None = None

    def of(self, tensor: str) -> str | None:
        """The file of a tensor, or None."""
        if self._files is None:
            self._files = dict(self._index.weight_map) if self._index is not None else {}
            self._files.update((name, path) for path, names in self._placed for name in names)
        return self._files.get(tensor)


class _Candidates:
    """The waivers of one rule by how the names that they match begin, so that none is tried on all names."""

    def __init__(self) -> None:
        self._tests: dict[int, list[tuple[str, Callable[[str], object]]]] = {}
        self._starts: dict[tuple[str, int], dict[str, list[int]]] = {}

    def add(self, position: int, waiver: WaiverRule) -> None:
        """One more waiver, known by its position."""
        globs = [(kind, glob) for kind in ("tensor", "file", "field") if (glob := getattr(waiver, kind)) is not None]
        self._tests[position] = [(kind, matcher(glob)) for kind, glob in globs]
        kind, glob = globs[0] if globs else ("", "")
        start = literal_start(glob)
        self._starts.setdefault((kind, len(start)), {}).setdefault(start, []).append(position)

    def matching(self, member: Member) -> Iterator[int]:
        """The positions of the waivers that match a member."""
        for (kind, length), by_start in self._starts.items():
            value = getattr(member, kind) if kind else ""
            for position in () if value is None else by_start.get(value[:length], ()):
                found = ((test, getattr(member, each)) for each, test in self._tests[position])
                if all(value is not None and test(value) for test, value in found):
                    yield position


@dataclass(slots=True)
class _Tally:
    findings: int = 0
    members: int = 0
    used: bool = False


@dataclass(slots=True)
class Waivers:
    """The waivers of a policy on one day, and what they have matched so far."""

    rules: tuple[tuple[WaiverRule, Rule], ...]
    today: date
    _tallies: dict[int, _Tally] = field(default_factory=dict)
    _of: dict[str, "_Candidates"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for position, (waiver, rule) in enumerate(self.rules):
            self._of.setdefault(rule.id, _Candidates()).add(position, waiver)

    def has(self, rule: str) -> bool:
        """Whether any waiver is of a rule, expired ones included."""
        return rule in self._of

    def covered(self, rule: str, them: Iterable[Member]) -> list[tuple[int, set[Member]]]:
        """The waivers of a rule that match members, by position, with those that each covers: expired ones none."""
        hits: dict[int, set[Member]] = {}
        for each in them:
            for position in self._of[rule].matching(each):
                hits.setdefault(position, set()).add(each)
        for position, hit in hits.items():
            tally = self._tallies.setdefault(position, _Tally())
            tally.findings += 1
            tally.members += len(hit)
        return [(position, hit if self.active(position) else set()) for position, hit in sorted(hits.items())]

    def active(self, position: int) -> bool:
        """Whether a waiver still waives: through its last day."""
        return self.today <= self.rules[position][0].expires

    def use(self, positions: Iterable[int]) -> None:
        """Note that these excuse a finding."""
        for position in positions:
            self._tallies.setdefault(position, _Tally()).used = True

    def joined(self, positions: Sequence[int]) -> Waiver:
        """Several waivers that together cover a finding as one: it ends when the first of them does."""
        chosen = [self.rules[position][0] for position in positions]
        owners = list(dict.fromkeys(each.owner for each in chosen if each.owner))
        return Waiver(
            reason="; ".join(dict.fromkeys(each.reason for each in chosen)),
            owner=", ".join(owners) or None,
            expires=min(each.expires for each in chosen),
        )

    def uses(self, outcomes: Iterable[RuleOutcome]) -> Iterator[WaiverUse]:
        """What became of each waiver, in the order of the policy."""
        ran = {each.rule for each in outcomes if each.outcome in ("passed", "failed")}
        for position, (waiver, rule) in enumerate(self.rules):
            tally = self._tallies.get(position, _Tally())
            yield WaiverUse(
                rule=rule.id,
                slug=rule.slug,
                tensor=waiver.tensor,
                file=waiver.file,
                field=waiver.field,
                reason=waiver.reason,
                owner=waiver.owner,
                expires=waiver.expires,
                state=self._state(position, tally, rule.id in ran),
                findings=tally.findings,
                members=tally.members,
            )

    def _state(
        self, position: int, tally: _Tally, ran: bool
    ) -> Literal["used", "partial", "unused", "expired", "not_run"]:
        if not self.active(position):
            return "expired"
        if tally.used:
            return "used"
        if tally.findings:
            return "partial"
        return "unused" if ran else "not_run"
