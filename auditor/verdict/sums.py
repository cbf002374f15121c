"""Which root a wrong sum follows from: one that is no milder, and whose tensors make the whole difference."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from auditor.inventory.facts import Inventory
from auditor_schemas.rule import WEIGHT, AnyMissing, Excess, Failure, Scope, Severity

# Of more roots than this that have a part in a sum, each alone is tried and all together.
_COMBINED = 10
_NONE: frozenset[int] = frozenset()


def causes_of_sums(ordered: Sequence[Failure], roots: Sequence[int | None], inventory: Inventory) -> dict[int, int]:
    """The position of each explained sum → that of its root. `roots` has each failure's, None where it is one."""
    sums = [
        position
        for position, failure in enumerate(ordered)
        if failure.rule.scope == Scope.COUNT and failure.rule.severity != Severity.INFO
    ]
    if not sums:
        return {}
    answerable = _Answerable(ordered, roots, inventory, sums)
    found = {}
    for position in sums:
        causes = (answerable.cause(excess, ordered[position].rule.severity) for excess in ordered[position].excess)
        cause = next((each for each in causes if each is not None), None)
        if cause is not None:
            found[position] = cause
    return found


class _Answerable:
    """The roots by the tensors that fail with them; those of one finding are one root, by its first failure."""

    def __init__(
        self, ordered: Sequence[Failure], roots: Sequence[int | None], inventory: Inventory, sums: Sequence[int]
    ) -> None:
        wanted = {name for at in sums for each in ordered[at].excess for name in (*each.parts, *each.unsized)}
        self._ordered, self._there = ordered, inventory.tensors
        self._of: dict[str, frozenset[int]] = {}  # many tensors fail with the same roots, which are held once
        self._of_missing: frozenset[int] = _NONE
        joined: dict[tuple[frozenset[int], int], frozenset[int]] = {}
        first: dict[tuple[str, object], int] = {}
        for position, failure in enumerate(ordered):
            if failure.rule.scope == Scope.COUNT:
                continue
            root = roots[position]
            at = position if root is None else root
            group = first.setdefault((ordered[at].rule.id, ordered[at].fold), at)
            subjects = {*failure.tensors, *failure.takes}
            if AnyMissing() in subjects:
                self._of_missing |= {group}
            for name in wanted & subjects:
                before = self._of.get(name, _NONE)
                if (before, group) not in joined:
                    joined[before, group] = before | {group}
                self._of[name] = joined[before, group]

    def cause(self, excess: Excess, severity: Severity) -> int | None:
        """The first of the roots that make the whole excess together, none of them milder; None where none do."""
        made: dict[frozenset[int], list[int]] = {}  # by the roots of tensors: the sum, how many unsized
        for name, part, unsized in _parts(excess):
            them = self._of.get(name, _NONE)
            if self._of_missing and name not in self._there:
                them |= self._of_missing
            share = made.setdefault(them, [0, 0])
            share[0] += part
            share[1] += unsized
        shares: dict[frozenset[int], list[int]] = {}  # the same by those that answer for it
        for them, (part, unsized) in made.items():
            answering = frozenset(
                each for each in them if WEIGHT[self._ordered[each].rule.severity] >= WEIGHT[severity]
            )
            if answering:
                share = shares.setdefault(answering, [0, 0])
                share[0] += part
                share[1] += unsized
        return next((min(roots) for roots, made in _together(shares) if _makes(made, excess)), None)


def _parts(excess: Excess) -> Iterator[tuple[str, int, int]]:
    for name, part in excess.parts.items():
        yield name, part, 0
    for name in excess.unsized:
        yield name, 0, 1


def _makes(made: Sequence[int], excess: Excess) -> bool:
    """Whether this is all of the excess; what is lacking and unsized may be any size."""
    total, unsized = made
    return total == excess.total or (unsized > 0 and excess.total < total)


def _together(shares: Mapping[frozenset[int], Sequence[int]]) -> Iterator[tuple[tuple[int, ...], Sequence[int]]]:
    """Roots, and what they make together: each alone, several, all."""
    alone: dict[int, list[int]] = {}
    for roots, (part, unsized) in shares.items():
        for root in roots:
            made = alone.setdefault(root, [0, 0])
            made[0] += part
            made[1] += unsized
    yield from (((root,), made) for root, made in sorted(alone.items()))
    sizes = range(2, len(alone)) if len(alone) <= _COMBINED else ()
    for some in (some for size in sizes for some in combinations(sorted(alone), size)):
        held = [made for roots, made in shares.items() if not roots.isdisjoint(some)]
        yield some, [sum(part for part, _ in held), sum(unsized for _, unsized in held)]
    if len(alone) > 1:
        yield tuple(alone), [sum(part for part, _ in shares.values()), sum(unsized for _, unsized in shares.values())]
