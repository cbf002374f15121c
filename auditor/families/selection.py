"""Which modules a list means: by name, a part of one, a glob or an expression, as writers of checkpoints mix them."""

from collections.abc import Iterator, Sequence

from auditor.families.expressions import Automaton, UnreadableError
from auditor.text import quoted

MOST_ENTRIES = 200_000
_LONGEST = 512
_EXPRESSION = "re:"
_SIGNS = frozenset("*?[")


class Selection:
    """Modules by the entries of a list.

    A name, of a module or of its weight, means the modules in which it is a run of whole components, so those within
    it and those behind any prefix. A glob matches a whole module or one that it lies in, dots being letters like
    others; behind `re:` stands a regular expression of how a module's name begins. Raises UnreadableError for what
    is none of these, or takes more work than a list may.
    """

    def __init__(self, entries: Sequence[object] = ()) -> None:
        self.entries: tuple[str, ...] = tuple(dict.fromkeys(map(_entry, _bounded(entries))))
        self._names: dict[str, str] = {}
        self._starts: dict[str, str] = {}
        self._patterns: list[str] = []
        self._automaton = Automaton()
        for entry in self.entries:
            self._take(entry)
        self._lengths = sorted(set(map(len, self._starts)))
        self._firsts = frozenset(name.partition(".")[0] for name in self._names)

    def _take(self, entry: str) -> None:
        if entry.startswith(_EXPRESSION) or not _SIGNS.isdisjoint(entry[:-1]) or entry[-1] in "?[":
            add = self._automaton.add_expression if entry.startswith(_EXPRESSION) else self._automaton.add_glob
            try:
                add(entry.removeprefix(_EXPRESSION))
            except UnreadableError as error:
                raise UnreadableError(f"{quoted(entry)} {error}") from error
            self._patterns.append(entry)
        elif entry.endswith("*"):
            self._starts[entry[:-1]] = entry
        else:
            self._names[entry.removesuffix(".weight")] = entry

    def matching(self, module: str) -> Iterator[str]:
        """The entries that mean a module, each once."""
        if self._names:
            parts = module.split(".")
            begins = [at for at, part in enumerate(parts) if part in self._firsts]
            runs = (".".join(parts[a:b]) for a in begins for b in range(a + 1, len(parts) + 1))
            yield from dict.fromkeys(self._names[run] for run in runs if run in self._names)
        for length in self._lengths:
            if length > len(module):
                break
            if module[:length] in self._starts:
                yield self._starts[module[:length]]
        if self._patterns:
            yield from (self._patterns[each] for each in self._automaton.matching(module))

    def has(self, module: str, experts: int = 0) -> bool:
        """Whether a module is meant; that of routed experts by one name for all, or by the names of all."""
        if not self.entries:
            return False
        one_by_one = (self._means(module.replace("{expert}", str(expert))) for expert in range(experts))
        return self._means(module) or (experts > 0 and all(one_by_one))

    def _means(self, module: str) -> bool:
        return next(self.matching(module), None) is not None


def _bounded(entries: Sequence[object]) -> Sequence[object]:
    if len(entries) > MOST_ENTRIES:
        raise UnreadableError(f"has {len(entries):,} entries, limit {MOST_ENTRIES:,}")
    return entries


def _entry(entry: object) -> str:
    if not isinstance(entry, str) or not 0 < len(entry) <= _LONGEST:
        raise UnreadableError(f"has the entry {quoted(entry)}, needs names of 1 to {_LONGEST} characters")
    return entry
