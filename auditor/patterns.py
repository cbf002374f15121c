"""The tensor-name grammar: where layer and expert numbers stand, and many names as few {a-b} patterns."""

import re
from collections.abc import Iterable, Iterator
from itertools import product

# A number is a path component of digits without leading zeros, as layers and experts are numbered.
_NUMBER = re.compile(r"(?<![^.\-])(0|[1-9][0-9]{0,8})(?=[.\-]|$)")
# The last number of a name, with what stands before and behind it.
_LAST = re.compile(rf"(.*){_NUMBER.pattern}(.*)", re.DOTALL)
# A name that holds more numbers stands for itself: no layout's does, and folding many is dear.
_MOST_NUMBERS = 4
# A brace of a name, as a pattern and a glob have it: what is left between braces of its own is a run of numbers.
_BRACE, _ESCAPED = "{", "[{]"
# A run of them, as `patterns` writes it. More digits are no number of a layer or expert, but a hostile text.
_RANGE = re.compile(r"(?<![^.\-])\{(0|[1-9][0-9]{0,8})-(0|[1-9][0-9]{0,8})\}(?=[.\-]|$)")
_FILE_RANGE = re.compile(r"(?<=-)\{([0-9]{1,9})-([0-9]{1,9})\}(?=-of-)")
# What numbers mean where no family says it: the first behind `layers` or `mtp` is a layer's, one behind `experts` an
# expert's. Families know more (families/naming.py).
_LAYER = re.compile(r"((?:[a-z_]+\.){0,3}?(?:layers|mtp))\.(0|[1-9][0-9]{0,8})\.")
_EXPERT = re.compile(rf"{_LAYER.pattern}([a-z_]+\.experts)\.(0|[1-9][0-9]{{0,8}})\.")
_EITHER = re.compile(rf"{_LAYER.pattern}(?:([a-z_]+\.experts)\.(0|[1-9][0-9]{{0,8}})\.)?")
_VOCABULARY = ("embed_tokens.weight", "lm_head.weight", "shared_head.head.weight", "embed.weight")


def layer_of(name: str) -> int | None:
    """The layer a tensor belongs to, or None for a name outside the layers."""
    found = _LAYER.match(name)
    return int(found[2]) if found else None


def expert_of(name: str) -> int | None:
    """The routed expert a tensor belongs to, or None."""
    found = _EXPERT.match(name)
    return int(found[4]) if found else None


def is_vocabulary(name: str) -> bool:
    """Whether a name is one of the embedding or the head, or of a copy that an MTP module stores."""
    return name.endswith(_VOCABULARY) or name == "head.weight"


def kind_of(name: str) -> str:
    """What tensors of all layers and experts have in common: the name behind the layer, `{expert}` for the number.

    Modules of their own, such as `mtp.0`, keep what they are called.
    """
    return layer_and_kind(name)[1]


def layer_and_kind(name: str) -> tuple[int | None, str]:
    """Both by one look at the name."""
    found = _EITHER.match(name)
    if found is None:
        return None, escaped(name)
    stack, layer, experts, _ = found.groups()
    rest = escaped(name[found.end() :])
    if experts is not None:
        rest = f"{experts}.{{expert}}.{rest}"
    return int(layer), f"{stack}.{rest}" if "mtp" in stack else rest


def escaped(text: str) -> str:
    """A name, or a part of one, as a pattern holds it: a brace of its own begins no run of numbers."""
    return text.replace(_BRACE, _ESCAPED)


def _plain(text: str) -> str:
    return text.replace(_ESCAPED, _BRACE)


def patterns(names: Iterable[str]) -> tuple[str, ...]:
    """The names, complete, with runs of numbers as {a-b}: layers and experts fold together where they can.

    Each distinct name is covered exactly once. An opening brace in a name is written [{].
    """
    return tuple(sorted(pattern for texts, numbers in _alike(names).items() for pattern in _fold(texts, numbers)))


def _alike(names: Iterable[str]) -> dict[tuple[str, ...], set[tuple[int, ...]]]:
    """The numbers of the distinct names, those together that differ in their numbers alone, by the texts between."""
    kinds: dict[tuple[str, ...], set[tuple[int, ...]]] = {}
    alike: dict[tuple[str, str], list[str]] = {}  # names that differ in their last number alone
    for name in names:
        found = _LAST.fullmatch(name)
        if found is None:
            kinds[name,] = {()}
            continue
        before, last, behind = found.groups()
        alike.setdefault((before, behind), []).append(last)
    for (before, behind), lasts in alike.items():
        parts = _NUMBER.split(before)
        numbers = tuple(map(int, parts[1::2]))
        if len(numbers) < _MOST_NUMBERS:
            kinds.setdefault((*parts[::2], behind), set()).update((*numbers, int(last)) for last in lasts)
        else:
            kinds.update(((f"{before}{last}{behind}",), {()}) for last in lasts)
    return kinds


def _fold(texts: tuple[str, ...], alike: set[tuple[int, ...]]) -> Iterator[str]:
    """Names that are alike, as patterns."""
    between = list(map(escaped, texts))
    for numbers in ranges(alike):
        yield "".join(text + number for text, number in zip(between, (*numbers, ""), strict=True))


def ranges(numbers: set[tuple[int, ...]]) -> Iterator[tuple[str, ...]]:
    """Tuples of numbers as products of ranges: the last position folds first, then those before it."""
    current: dict[tuple[object, ...], list[int]] = {}
    width = len(next(iter(numbers)))
    rows: list[tuple[object, ...]] = list(numbers)
    for position in reversed(range(width)):
        if len({row[position] for row in rows}) == 1:
            continue
        current = {}
        for row in rows:
            current.setdefault((*row[:position], *row[position + 1 :]), []).append(row[position])  # type: ignore[arg-type]  # still an int here
        rows = [(*rest[:position], run, *rest[position:]) for rest, values in current.items() for run in _runs(values)]
    for row in rows:
        yield tuple(str(part) for part in row)


def _runs(values: list[int]) -> Iterator[str]:
    values.sort()
    begin = previous = values[0]
    for value in [*values[1:], -1]:
        if value != previous + 1:
            yield str(begin) if begin == previous else f"{{{begin}-{previous}}}"
            begin = value
        previous = value


def count(pattern: str) -> int:
    """How many names a pattern covers."""
    total = 1
    for begin, end in _RANGE.findall(pattern):
        total *= max(0, int(end) - int(begin) + 1)
    return total


def expand(pattern: str) -> Iterator[str]:
    """The names a pattern covers, the last number running first. Ask `count` before: a report may come from anyone."""
    if "{" not in pattern:
        yield pattern
        return
    parts = _RANGE.split(pattern)
    parts[::3] = map(_plain, parts[::3])
    runs = [range(int(a), int(b) + 1) for a, b in zip(parts[1::3], parts[2::3], strict=True)]
    yield from map("%d".join(text.replace("%", "%%") for text in parts[::3]).__mod__, product(*runs))


def expand_file(pattern: str, most: int) -> tuple[str, ...]:
    """The shard paths a file pattern covers, at most `most` of them; zeros in front are kept."""
    found = _FILE_RANGE.search(pattern)
    if found is None:
        return (_plain(pattern),)
    width, begin, end = len(found[1]), int(found[1]), int(found[2])
    numbers = range(begin, min(end + 1, begin + most))
    before, after = _plain(pattern[: found.start()]), _plain(pattern[found.end() :])
    return tuple(f"{before}{n:0{width}d}{after}" for n in numbers)
