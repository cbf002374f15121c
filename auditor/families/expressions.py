"""Globs and a subset of regular expressions, all matched at once in time linear in the name.

Lists of modules come with checkpoints, and an expression of a stranger may take a backtracking matcher for ever. Here
every expression becomes positions that follow one another (Glushkov's construction), of which a name is read once. What
a name cannot be read for so, lookaround and back references above all, is refused.
"""

import string
from collections.abc import Callable, Iterator
from typing import Literal

from msgspec import Struct

from auditor.errors import SourceError
from auditor.text import quoted

MOST_POSITIONS = 4_096  # of all expressions together
_MOST_GROUPS = 20
_MOST_STATES = 50_000
_A_PLACING = 16  # in steps
_MOST_STEPS = 20_000_000  # from position to position, some seconds' worth; a list in use takes some thousands

# Where a match may end: at any letter, at the end of a dotted component, or at the end of the name alone.
End = Literal["anywhere", "component", "name"]


class UnreadableError(Exception):
    """An expression that is none, or that is beyond the subset; the message says why."""


class _Letters(Struct, frozen=True):
    """The letters that a position takes, or all the others."""

    members: frozenset[str]
    others: bool = False

    def take(self, letter: str) -> bool:
        return (letter in self.members) is not self.others


class _Sequence(Struct, frozen=True):
    parts: tuple["_Node", ...]


class _Choice(Struct, frozen=True):
    parts: tuple["_Node", ...]


class _Repeated(Struct, frozen=True):
    part: "_Node"
    least: int
    most: int | None


_Node = _Letters | _Sequence | _Choice | _Repeated

_ANY = _Letters(frozenset(), others=True)
_SETS = {"d": string.digits, "w": string.ascii_letters + string.digits + "_", "s": string.whitespace}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r"}
_MARKS = frozenset("()[]{}*+?|^$\\")


class Automaton:
    """Expressions, each added with where its match may end, and which of them match a name from its start."""

    def __init__(self) -> None:
        self._takes: list[_Letters] = [_ANY]  # position 0 stands before the name
        self._follow: list[int] = [0]
        self._owner: list[int] = [-1]
        self._ends: dict[End, int] = {"anywhere": 0, "component": 0, "name": 0}
        self._masks: dict[str, int] = {}
        self._next: dict[tuple[int, str], int] = {}
        self._always: list[int] = []
        self._count = 0
        self._steps = 0

    def add_expression(self, text: str) -> int:
        """A regular expression that matches how a name begins, as re.match has it. Raises UnreadableError."""
        end: End = "anywhere"
        if text.endswith("$") and not text.endswith("\\$"):
            text, end = text[:-1], "name"
        return self._add(_Parser(text.removeprefix("^")).parse(), end)

    def add_glob(self, text: str) -> int:
        """A glob of whole modules: * ? [seq] as in a shell, dots included. Raises UnreadableError."""
        return self._add(_Sequence(tuple(_glob(text))), "component")

    def matching(self, name: str) -> list[int]:
        """The numbers of the expressions that match, as they were returned for them.

        Raises SourceError where a hostile list has cost all the work that a list may.
        """
        state, hits = 1, 0
        anywhere, component, last = self._ends["anywhere"], self._ends["component"], self._ends["name"]
        for letter in name:
            if letter == ".":
                hits |= state & component
            key = state, letter
            state = self._next[key] if key in self._next else self._step(state, letter)
            if not state:
                break
            hits |= state & anywhere
        hits |= state & (component | last)
        found = (self._owner[each] for each in _bits(hits))
        return list(dict.fromkeys([*self._always, *found])) if hits else self._always

    def _step(self, state: int, letter: str) -> int:
        if letter not in self._masks:
            self._masks[letter] = sum(1 << n for n, each in enumerate(self._takes) if n and each.take(letter))
        reached = 0
        for each in _bits(state):
            reached |= self._follow[each]
        self._spend(state.bit_count())
        if len(self._next) >= _MOST_STATES:
            self._next.clear()
        found = self._next[state, letter] = reached & self._masks[letter]
        return found

    def _add(self, node: _Node, end: End) -> int:
        number = self._count
        self._count += 1
        nullable, first, last = self._place(node, number)
        self._follow[0] |= first
        self._ends[end] |= last
        if nullable and end == "anywhere":
            self._always.append(number)
        return number

    def _place(self, node: _Node, owner: int) -> tuple[bool, int, int]:
        """Whether a node matches nothing as well, and the positions that it begins and ends with."""
        self._spend(_A_PLACING)
        if isinstance(node, _Letters):
            if len(self._takes) > MOST_POSITIONS:
                raise UnreadableError(f"has more than {MOST_POSITIONS} signs, with the expressions before it")
            self._takes.append(node)
            self._follow.append(0)
            self._owner.append(owner)
            place = 1 << (len(self._takes) - 1)
            return False, place, place
        if isinstance(node, _Choice):
            placed = [self._place(each, owner) for each in node.parts]
            empty = any(each[0] for each in placed)
            return empty, _union(each[1] for each in placed), _union(each[2] for each in placed)
        if isinstance(node, _Sequence):
            return self._chain([self._place(each, owner) for each in node.parts])
        copies = [self._place(node.part, owner) for _ in range(max(node.least, node.most or 1, 1))]
        if node.most is None:
            self._join(copies[-1][2], copies[-1][1])
        optional = [(each[0] or n >= node.least, each[1], each[2]) for n, each in enumerate(copies)]
        return (True, 0, 0) if node.most == 0 else self._chain(optional)

    def _chain(self, placed: list[tuple[bool, int, int]]) -> tuple[bool, int, int]:
        nullable, first, last = True, 0, 0
        for empty, begins, ends in placed:
            self._join(last, begins)
            first |= begins if nullable else 0
            last = ends | (last if empty else 0)
            nullable = nullable and empty
        return nullable, first, last

    def _join(self, ends: int, begins: int) -> None:
        self._spend(ends.bit_count())
        for each in _bits(ends):
            self._follow[each] |= begins

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MOST_STEPS:
            raise SourceError(f"the expressions of a list take more than {_MOST_STEPS:,} steps to match", code="limit")


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _union(masks: Iterator[int]) -> int:
    found = 0
    for each in masks:
        found |= each
    return found


def _glob(text: str) -> Iterator[_Node]:
    place = 0
    while place < len(text):
        letter = text[place]
        place += 1
        close = text.find("]", place + 2 if text.startswith("!", place) else place + 1) if letter == "[" else -1
        if letter == "*":
            yield _Repeated(_ANY, 0, None)
        elif letter == "?":
            yield _ANY
        elif close > 0:
            inside = text[place:close]
            yield _Letters(_members(inside.removeprefix("!")), others=inside.startswith("!"))
            place = close + 1
        else:
            yield _Letters(frozenset(letter))


def _members(inside: str) -> frozenset[str]:
    """The letters between brackets, runs such as 0-9 among them."""
    found: set[str] = set()
    place = 0
    while place < len(inside):
        first = inside[place]
        if inside[place + 1 : place + 2] == "-" and place + 2 < len(inside):
            found.update(_run(first, inside[place + 2]))
            place += 3
        else:
            found.add(first)
            place += 1
    return frozenset(found)


def _run(first: str, last: str) -> list[str]:
    if not first <= last <= "\x7f":
        raise UnreadableError(f"has the run {quoted(f'{first}-{last}')}")
    return [chr(each) for each in range(ord(first), ord(last) + 1)]


class _Parser:
    """The tree of one expression."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.depth = 0

    def parse(self) -> _Node:
        node = self._choice()
        if self.place < len(self.text):
            raise UnreadableError(f"has {quoted(self.text[self.place])} too many")
        return node

    def _peek(self) -> str:
        return self.text[self.place : self.place + 1]

    def _skip(self, text: str) -> bool:
        found = self.text.startswith(text, self.place)
        self.place += len(text) if found else 0
        return found

    def _choice(self) -> _Node:
        parts = [self._sequence()]
        while self._skip("|"):
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _Choice(tuple(parts))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return _Sequence(tuple(parts))

    def _repeated(self, node: _Node) -> _Node:
        signs: dict[str, Callable[[], _Node]] = {
            "*": lambda: _Repeated(node, 0, None),
            "+": lambda: _Repeated(node, 1, None),
            "?": lambda: _Repeated(node, 0, 1),
        }
        for sign, make in signs.items():
            if self._skip(sign):
                return self._once(make())
        return self._once(self._counted(node)) if self._skip("{") else node

    def _once(self, node: _Node) -> _Node:
        """How greedy a sign is changes where a match ends, not whether there is one."""
        self._skip("?")
        if self._peek() in ("*", "+", "?", "{"):
            raise UnreadableError("repeats a repetition")
        return node

    def _counted(self, node: _Node) -> _Node:
        end = self.text.find("}", self.place)
        least, comma, most = self.text[self.place : max(end, self.place)].partition(",")
        digits = [each for each in (least, most) if each]
        if not digits or any(not (each.isascii() and each.isdigit() and len(each) < 4) for each in digits):
            raise UnreadableError("has a brace that counts nothing")
        self.place = end + 1
        few, many = int(least or 0), int(most) if most else None if comma else int(least)
        if many is not None and many < few:
            raise UnreadableError("counts down")
        return _Repeated(node, few, many)

    def _atom(self) -> _Node:
        letter = self._peek()
        self.place += 1
        if letter == ".":
            return _Letters(frozenset("\n"), others=True)
        if letter == "(":
            return self._group()
        if letter == "[":
            return self._class()
        if letter == "\\":
            return self._escape()
        if letter in _MARKS:
            raise UnreadableError(f"has {quoted(letter)} where it means nothing that is read here")
        return _Letters(frozenset(letter))

    def _group(self) -> _Node:
        if self._skip("?") and not self._skip(":"):
            raise UnreadableError("looks around, names a group or sets a flag")
        self.depth += 1
        if self.depth > _MOST_GROUPS:
            raise UnreadableError(f"has more than {_MOST_GROUPS} groups in one another")
        node = self._choice()
        self.depth -= 1
        if not self._skip(")"):
            raise UnreadableError("has a group without an end")
        return node

    def _escape(self) -> _Letters:
        letter = self._peek()
        self.place += 1
        if letter.lower() in _SETS:
            return _Letters(frozenset(_SETS[letter.lower()]), others=letter.isupper())
        if not letter or (letter.isalnum() and letter not in _CONTROLS):
            raise UnreadableError(f"has {quoted(chr(92) + letter)}")
        return _Letters(frozenset(_CONTROLS.get(letter, letter)))

    def _class(self) -> _Letters:
        others = self._skip("^")
        found: set[str] = set()
        begin = self.place
        while self._peek() != "]" or self.place == begin:
            letter = self._peek()
            if not letter:
                raise UnreadableError("has a bracket without an end")
            self.place += 1
            if letter == "\\":
                held = self._escape()
                if held.others:
                    raise UnreadableError("has a negation in brackets")
                found |= held.members
            elif self._peek() == "-" and self.text[self.place + 1 : self.place + 2] not in ("", "]", "\\"):
                found.update(_run(letter, self.text[self.place + 1]))
                self.place += 2
            else:
                found.add(letter)
        self.place += 1
        return _Letters(frozenset(found), others)
