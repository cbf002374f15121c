"""The tensors of a checkpoint by pattern: names that differ in their numbers alone, with the kinds they have."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from msgspec import Struct

from auditor.format.entries import Kind
from auditor.inventory.facts import Inventory

# A number is a component of a name, without leading zeros, as layers and experts are numbered. Each name has a dot in
# front and a line's end behind it here: a pattern that begins with one character is found fastest.
_NUMBER = re.compile(r"\.(0|[1-9][0-9]{0,8})(?=[.\n])")
MARK = "#"
# A name with more numbers stands for itself: no layout's has as many.
_MOST_NUMBERS = 4
# Begins a pattern that is one name as it is, where its own characters would be taken for marks.
_WHOLE = "\n"

# Of the numbers of a name all but the last, and by these the last ones: a layer's experts, say.
Numbers = Mapping[tuple[int, ...], Sequence[int]]
_Gathered = dict[tuple[int, ...], list[int]]


class Pattern(Struct, frozen=True):
    """Names alike but for `width` numbers, each a `#` in `text`, by dtype and shape.

    A pattern of no number holds one name, as the number 0.
    """

    text: str
    width: int
    kinds: dict[Kind, _Gathered]

    def __len__(self) -> int:
        return sum(len(lasts) for numbers in self.kinds.values() for lasts in numbers.values())


def gather(inventory: Inventory) -> dict[str, Pattern]:
    """The patterns of all shards that are part of the checkpoint, by their texts."""
    found: dict[str, Pattern] = {}
    for shard in inventory.parts:
        for kind, names in shard.kinds.items():
            _add(found, kind, names)
    return found


def _add(found: dict[str, Pattern], kind: Kind, names: Sequence[str]) -> None:
    """Add names of one kind. Patterns are made of all names in one go, which is most of the cost."""
    joined = "." + "\n.".join(names) + "\n"
    if MARK in joined or joined.count("\n") != len(names):
        for name in names:
            if MARK in name or "\n" in name:
                _held(found, _WHOLE + name, 0, kind).setdefault((), []).append(0)
            else:
                _add(found, kind, [name])
        return
    numbers = map(int, _NUMBER.findall(joined))
    texts = _NUMBER.sub(f".{MARK}", joined)[1:-1].split("\n.")
    widths: dict[str, int] = {}
    held: dict[str, _Gathered] = {}
    for position, text in enumerate(texts):
        width = widths.get(text)
        if width is None:
            width = widths[text] = text.count(MARK)
            if width <= _MOST_NUMBERS:
                held[text] = _held(found, text, width, kind)
        if width == 2:
            leading: tuple[int, ...] = (next(numbers),)
        elif width == 1:
            leading = ()
        elif width == 0:
            held[text].setdefault((), []).append(0)
            continue
        elif width > _MOST_NUMBERS:
            for _ in islice(numbers, width):
                pass
            _held(found, _WHOLE + names[position], 0, kind).setdefault((), []).append(0)
            continue
        else:
            leading = tuple(islice(numbers, width - 1))
        lasts = held[text].get(leading)
        if lasts is None:
            lasts = held[text][leading] = []
        lasts.append(next(numbers))


def _held(found: dict[str, Pattern], text: str, width: int, kind: Kind) -> _Gathered:
    pattern = found.get(text)
    if pattern is None:
        pattern = found[text] = Pattern(text, width, {})
    return pattern.kinds.setdefault(kind, {})


def spell(text: str, leading: tuple[int, ...], last: int) -> str:
    """The name that a pattern, or a part of one that begins it, has with these numbers."""
    if text.startswith(_WHOLE):
        return text[1:]
    pieces = text.split(MARK)
    numbers = (*leading, last)
    return "".join(
        f"{piece}{numbers[position]}" if position < len(pieces) - 1 else piece for position, piece in enumerate(pieces)
    )


def spelled(text: str, numbers: Numbers) -> Iterator[str]:
    """The names that a pattern has with each of some numbers."""
    if text.startswith(_WHOLE):
        yield text[1:]
        return
    pieces = text.split(MARK)
    for leading, lasts in numbers.items():
        if len(pieces) == 1:
            yield text
            continue
        *front, before, after = pieces
        head = "".join(f"{piece}{number}" for piece, number in zip(front, leading, strict=True)) + before
        yield from (f"{head}{last}{after}" for last in lasts)


def shown_pattern(text: str) -> str:
    """A pattern as messages have it: `#` for a number, one name as it is."""
    return text.removeprefix(_WHOLE)


def is_whole(text: str) -> bool:
    """Whether a pattern is one name as it is, in which nothing is a mark or a suffix."""
    return text.startswith(_WHOLE)


def merged(parts: Iterable[Numbers]) -> dict[tuple[int, ...], list[int]]:
    """Numbers of several together."""
    found: _Gathered = {}
    for numbers in parts:
        for leading, lasts in numbers.items():
            found.setdefault(leading, []).extend(lasts)
    return found
