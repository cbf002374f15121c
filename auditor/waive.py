"""Waivers: which members of a finding a policy excuses today, and what became of each waiver. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from auditor.attribute import Attributed
from auditor.facts import Index
from auditor.globs import matcher
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

    def of(self, rule: str) -> list[int]:
        """The positions of a rule's waivers, expired ones included."""
        return [position for position, (_, each) in enumerate(self.rules) if each.id == rule]

    def covered(self, position: int, them: Sequence[Member]) -> set[Member]:
        """The members that a waiver covers; expired ones are counted but cover nothing."""
        waiver = self.rules[position][0]
        tests = [
            (matcher(glob), kind)
            for kind, glob in (("tensor", waiver.tensor), ("file", waiver.file), ("field", waiver.field))
            if glob is not None
        ]
        hit = {
            each
            for each in them
            if all((value := getattr(each, kind)) is not None and matches(value) for matches, kind in tests)
        }
        if hit:
            tally = self._tallies.setdefault(position, _Tally())
            tally.findings += 1
            tally.members += len(hit)
        return hit if self.active(position) else set()

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
