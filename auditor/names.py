"""The tensor-name grammar: where layer and expert numbers stand, and many names as few {a-b} patterns."""

import re
from collections.abc import Iterable, Iterator

# A number is a path component of digits without leading zeros, as layers and experts are numbered.
_NUMBER = re.compile(r"(?<![^.\-])(0|[1-9][0-9]{0,8})(?=[.\-]|$)")
_LAYER = re.compile(r"model\.layers\.(0|[1-9][0-9]{0,8})\.")
_EXPERT = re.compile(r"model\.layers\.(0|[1-9][0-9]{0,8})\.mlp\.experts\.(0|[1-9][0-9]{0,8})\.")


def layer_of(name: str) -> int | None:
    """The layer a tensor belongs to, or None for a name outside the layers."""
    found = _LAYER.match(name)
    return int(found[1]) if found else None


def expert_of(name: str) -> int | None:
    """The routed expert a tensor belongs to, or None."""
    found = _EXPERT.match(name)
    return int(found[2]) if found else None


def kind_of(name: str) -> str:
    """What tensors of all layers and experts have in common: the name behind the layer, `{expert}` for the number."""
    found = _EXPERT.match(name)
    if found:
        return f"mlp.experts.{{expert}}.{name[found.end() :]}"
    layer = _LAYER.match(name)
    return name[layer.end() :] if layer else name


def patterns(names: Iterable[str]) -> tuple[str, ...]:
    """The names, complete, with runs of numbers as {a-b}: layers and experts fold together where they can.

    Each distinct name is covered exactly once. A name that holds a brace stands for itself.
    """
    kinds: dict[tuple[str, ...], set[tuple[int, ...]]] = {}
    loose: list[str] = []
    for name in dict.fromkeys(names):
        if "{" in name:
            loose.append(name)
            continue
        parts = _NUMBER.split(name)
        kinds.setdefault(tuple(parts[::2]), set()).add(tuple(map(int, parts[1::2])))
    folded = []
    for texts, numbers in kinds.items():
        for ranges in _boxes(numbers):
            folded.append("".join(t + r for t, r in zip(texts, (*ranges, ""), strict=True)))
    return tuple(sorted(folded + loose))


def _boxes(numbers: set[tuple[int, ...]]) -> Iterator[tuple[str, ...]]:
    """Tuples of numbers as products of ranges: the last position folds first, then those before it."""
    current: dict[tuple[object, ...], list[int]] = {}
    width = len(next(iter(numbers)))
    rows: list[tuple[object, ...]] = list(numbers)
    for position in reversed(range(width)):
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


def expand(pattern: str) -> Iterator[str]:
    """The names a pattern covers, the last number counting first. Only for patterns of our own making."""
    head, brace, rest = pattern.partition("{")
    run, closed, tail = rest.partition("}")
    begin, dash, end = run.partition("-")
    if not (brace and closed and dash and begin.isdigit() and end.isdigit()):
        yield pattern
        return
    for number in range(int(begin), int(end) + 1):
        for more in expand(tail):
            yield f"{head}{number}{more}"


def count(pattern: str) -> int:
    """How many names a pattern covers."""
    product = 1
    for begin, end in re.findall(r"\{([0-9]+)-([0-9]+)\}", pattern):
        product *= int(end) - int(begin) + 1
    return product
