"""Names that differ from the layout's by one piece: a wrapper's prefix or infix, or another word at one place."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from auditor.comparison.records import Cause, Match, Renaming
from auditor.families.expectations import Expectations, Row
from auditor.inventory.facts import Inventory

_SAMPLE = 100  # names that are asked for a rewriting in one round; more only repeat each other
_ROUNDS = 6
_PIECES = 16  # components of a name; no layout has as many
_MAJORITY = 0.9
_ENOUGH = 0.5


class Rewriting(NamedTuple):
    """Put `needed` in the place of `found`, in front alone (`leading`) or where it stands; both end in a dot."""

    found: str
    needed: str
    leading: bool

    def applied(self, name: str) -> Iterator[str]:
        """The names that come of it: one for each place where `found` stands, and one for all of them."""
        if self.leading:
            if name.startswith(self.found):
                yield self.needed + name[len(self.found) :]
            return
        text = f".{name}."  # so that the first and the last component are as all are
        place = text.find(f".{self.found}")
        while place >= 0:
            yield (text[: place + 1] + self.needed + text[place + 1 + len(self.found) :]).strip(".")
            place = text.find(f".{self.found}", place + 1)
        if text.count(f".{self.found}") > 1:  # wrappers nest
            yield text.replace(f".{self.found}", f".{self.needed}").strip(".")


def find_renamings(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[Renaming, ...]:
    """The rewritings that turn unexpected names into missing ones, the most frequent first."""
    gone = {**match.missing, **match.absent}
    strange = [name for name in match.unexpected if expectations.naming.layer_of(name) not in match.undeclared_mtp]
    heads = _heads(expectations)
    words = sorted({word for row in expectations.layers_of for word in row.suffix.split(".") if word[0] != "{"})
    found: list[Renaming] = []
    earlier: list[Rewriting] = []
    while gone and strange and len(found) < _ROUNDS:
        sample = [
            (name, start)
            for name in strange[:: -(-len(strange) // _SAMPLE)]
            for start in (name, *_rewrite(earlier, name))
            if start.count(".") < _PIECES
        ]
        shapes = {name: inventory.tensors[name].shape for name, _ in sample}
        best = _best(((start, shapes[name], _move(start, heads)) for name, start in sample), gone) or _best(
            ((start, shapes[name], _reword(start, words)) for name, start in sample), gone
        )
        if best is None:
            break
        pairs = {}
        for name in strange:
            for start in (name, *_rewrite(earlier, name)):
                needed = next((each for each in best.applied(start) if each in gone), None)
                if needed is not None:
                    pairs[name] = needed
                    del gone[needed]
                    break
        stored, example = next(iter(pairs.items()))
        found.append(Renaming((*pairs, *pairs.values()), best.found, best.needed, stored, example, len(pairs)))
        strange = [name for name in strange if name not in pairs]
        earlier.append(best)
    # Of another format's names a few may happen to be near: they say nothing of the others.
    if _is_foreign(inventory, expectations, match) and len(strange) > _ENOUGH * len(match.unexpected):
        return ()
    return tuple(found)


def foreign(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[Cause, ...]:
    """One cause for all names where hardly one is the layout's and none can be rewritten: another format's."""
    if not _is_foreign(inventory, expectations, match):
        return ()
    return (Cause((*match.unexpected, *match.missing, *match.absent)),)


def _is_foreign(inventory: Inventory, expectations: Expectations, match: Match) -> bool:
    gone, strange = len(match.missing) + len(match.absent), len(match.unexpected)
    return strange > 0 and gone >= _MAJORITY * expectations.size and strange >= _MAJORITY * len(inventory.tensors)


def _heads(expectations: Expectations) -> list[str]:
    """What names of the layout begin with, the tensors of each MTP module apart."""
    naming = expectations.naming
    return [naming.stacks[0].prefix.partition("layers.")[0], *map(naming.prefix, expectations.mtp_layers)]


def _best(
    asked: Iterator[tuple[str, tuple[int, ...], Iterator[Rewriting]]], gone: Mapping[str, Row]
) -> Rewriting | None:
    """The rewriting by which most names become missing ones of their shape; of several the shortest."""
    votes: Counter[Rewriting] = Counter()
    for name, shape, rewritings in asked:
        for each in dict.fromkeys(rewritings):
            row = next((gone[needed] for needed in each.applied(name) if needed in gone), None)
            if row is not None and row.shape == shape:
                votes[each] += 1
    return max(votes, key=lambda each: (votes[each], -len(each.found), each), default=None)


def _rewrite(earlier: list[Rewriting], name: str) -> Iterator[str]:
    """The names that rewritings found before make of one: a wrapper may wrap what another one wrapped."""
    for rewriting in earlier:
        yield from rewriting.applied(name)


def _move(name: str, heads: list[str]) -> Iterator[Rewriting]:
    """Leave out any run of words, or put a head of the layout in the place of what a name begins with."""
    parts = name.split(".")
    for begin in range(len(parts)):
        for end in range(begin + 1, len(parts) + 1):
            # A number says which layer or expert it is: without it another tensor is meant.
            if parts[end - 1].isdecimal():
                break
            yield Rewriting(".".join(parts[begin:end]) + ".", "", leading=False)
    for end in range(len(parts)):
        found = "".join(f"{part}." for part in parts[:end])
        for head in heads:
            # A number in front may be the MTP module's; that of another layer makes it another tensor.
            numbered = any(part.isdecimal() for part in parts[:end])
            other = numbered and (head == heads[0] or found.startswith("model.layers."))
            if not other and not f".{found}".endswith(f".{head}"):
                yield Rewriting(found, head, leading=True)


def _reword(name: str, words: list[str]) -> Iterator[Rewriting]:
    """Put a word of the layout in the place of another one or before it; scales' spellings are told elsewhere."""
    for part in name.split("."):
        if not part.isdecimal() and "scale" not in part:
            for word in words:
                if word != part and "scale" not in word:
                    yield Rewriting(f"{part}.", f"{word}.", leading=False)
                    yield Rewriting(f"{part}.", f"{word}.{part}.", leading=False)
