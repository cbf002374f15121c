"""A file of patterns that says how a conversion renamed its tensors, read within bounds and matched in linear time.

A line is a pattern of OLD's names, `=>`, and the name that NEW has for it. A `*` stands for a run of characters other
than dots, at most one in each part between dots; those of the second pattern take what those of the first stood for,
in their order. `#` begins a comment. The first line that fits a name counts, and a name that none fits keeps itself.
"""

import os
import stat
from collections.abc import Iterable

from msgspec import Struct

from auditor.errors import UsageError
from auditor.text import quoted, shown

MOST_BYTES = 1 << 20
MOST_PATTERNS = 1000
_ARROW = "=>"
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Rename(Struct, frozen=True):
    """One line: the parts of both patterns, and its number in the file."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    line: int

    def renamed(self, parts: list[str]) -> str | None:
        """The new name of a name in its parts; None where the pattern does not fit."""
        if len(parts) != len(self.old):
            return None
        taken: list[str] = []
        for wanted, part in zip(self.old, parts, strict=True):
            if "*" not in wanted:
                if wanted != part:
                    return None
                continue
            before, _, after = wanted.partition("*")
            if len(part) < len(before) + len(after) or not (part.startswith(before) and part.endswith(after)):
                return None
            taken.append(part[len(before) : len(part) - len(after)])
        stars = iter(taken)
        return ".".join(part.replace("*", next(stars)) if "*" in part else part for part in self.new)


def read_renames(path: str) -> tuple[Rename, ...]:
    """The lines of a file. Raises UsageError, with the line, for what cannot be one."""
    renames: list[Rename] = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if len(renames) == MOST_PATTERNS:
            raise UsageError(f"--map {shown(path)}: more than {MOST_PATTERNS:,} patterns")
        renames.append(_rename(text, number, path))
    if not renames:
        raise UsageError(f"--map {shown(path)}: has no pattern; a line is OLD {_ARROW} NEW")
    return tuple(renames)


def _text(path: str) -> str:
    try:
        descriptor = os.open(path, _FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"--map {shown(path)}: is no regular file")
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--map {shown(path)}: cannot be read: {reason}") from error
    if len(data) > MOST_BYTES:
        raise UsageError(f"--map {shown(path)}: has more than {MOST_BYTES:,} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"--map {shown(path)}: is not UTF-8, at byte {error.start:,}") from error


def _rename(text: str, number: int, path: str) -> Rename:
    where = f"--map {shown(path)}, line {number}"
    old, arrow, new = (part.strip() for part in text.partition(_ARROW))
    if not arrow or not old or not new or len(text.split()) != 3:
        raise UsageError(f"{where}: {quoted(text)} is no pattern: a line is OLD {_ARROW} NEW")
    sides = tuple(old.split(".")), tuple(new.split("."))
    for side in sides:
        if any(part.count("*") > 1 for part in side):
            raise UsageError(f"{where}: {quoted(text)} has two * in one part between dots, of which it may have one")
    if old.count("*") != new.count("*"):
        counts = f"{old.count('*')} * on the left and {new.count('*')} on the right"
        raise UsageError(f"{where}: {quoted(text)} has {counts}, needs as many")
    return Rename(*sides, number)


class Names:
    """What names become. Patterns are found by the number of their parts and by the last one."""

    def __init__(self, renames: Iterable[Rename], path: str) -> None:
        self._path = path
        self._renames = tuple(renames)
        self._by_end: dict[tuple[int, str], list[Rename]] = {}
        for rename in self._renames:
            last = "" if "*" in rename.old[-1] else rename.old[-1]
            self._by_end.setdefault((len(rename.old), last), []).append(rename)

    def applied(self, names: Iterable[str]) -> dict[str, str]:
        """The new name of each name that a pattern fits.

        Raises UsageError for a pattern that fits no name, and for two names that become one.
        """
        found: dict[str, str] = {}
        takers: dict[str, str] = {}
        used: set[int] = set()
        for name in names:
            parts = name.split(".")
            candidates = [*self._by_end.get((len(parts), parts[-1]), ()), *self._by_end.get((len(parts), ""), ())]
            for rename in sorted(candidates, key=lambda each: each.line):
                new = rename.renamed(parts)
                if new is None:
                    continue
                used.add(rename.line)
                other = takers.setdefault(new, name)
                if other != name:
                    pair = f"{quoted(other)} and {quoted(name)}"
                    raise UsageError(f"--map {shown(self._path)}: {pair} both become {quoted(new)}")
                found[name] = new
                break
        idle = next((each for each in self._renames if each.line not in used), None)
        if idle is not None:
            pattern = shown(".".join(idle.old)[:120])
            raise UsageError(f"--map {shown(self._path)}, line {idle.line}: {pattern} fits no tensor of OLD")
        return found
