"""The tensors of a checkpoint by pattern: names that differ in their numbers alone, with the kinds they have."""

import re
from collections.abc import Iterator, Mapping, Sequence
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

    A pattern of no number holds one name, as the number 0. `places`: for each run of numbers the position in it from
    which on they are of which shard.
    """

    text: str
    width: int
    kinds: dict[Kind, _Gathered]
    places: dict[Kind, dict[tuple[int, ...], list[tuple[int, str]]]]

    def __len__(self) -> int:
        return sum(len(lasts) for numbers in self.kinds.values() for lasts in numbers.values())


# Releases have dozens of patterns, and each costs a kilobyte here.
MOST_PATTERNS = 100_000


def gather(inventory: Inventory) -> dict[str, Pattern] | None:
    """The patterns of all shards that are part of the checkpoint, by their texts; None where there are too many."""
    found: dict[str, Pattern] = {}
    for shard in inventory.parts:
        for kind, names in shard.kinds.items():
            for text, (width, numbers) in _patterns(names).items():
                pattern = found.get(text)
                if pattern is None:
                    pattern = found[text] = Pattern(text, width, {}, {})
                held, places = pattern.kinds.setdefault(kind, {}), pattern.places.setdefault(kind, {})
                for leading, lasts in numbers.items():
                    before = held.get(leading)
                    places.setdefault(leading, []).append((0 if before is None else len(before), shard.path))
                    if before is None:
                        held[leading] = lasts
                    else:
                        before.extend(lasts)
            if len(found) > MOST_PATTERNS:
                return None
    return found


def _patterns(names: Sequence[str]) -> dict[str, tuple[int, _Gathered]]:
    """Names by pattern, each with its width. All names are taken apart in one go, which is most of the cost."""
    joined = "." + "\n.".join(names) + "\n"
    if MARK in joined or joined.count("\n") != len(names):
        odd: dict[str, tuple[int, _Gathered]] = {
            _WHOLE + name: (0, {(): [0]}) for name in names if MARK in name or "\n" in name
        }
        rest = [name for name in names if MARK not in name and "\n" not in name]
        return {**odd, **(_patterns(rest) if rest else {})}
    numbers = map(int, _NUMBER.findall(joined))
    texts = _NUMBER.sub(f".{MARK}", joined)[1:-1].split("\n.")
    found: dict[str, tuple[int, _Gathered]] = {}
    for position, text in enumerate(texts):
        held = found.get(text)
        if held is None:
            held = found[text] = text.count(MARK), {}
        width, gathered = held
        if width == 2:
            leading: tuple[int, ...] = (next(numbers),)
        elif width < 2:
            leading = ()
        else:
            leading = tuple(islice(numbers, width - 1))
        last = next(numbers) if width else 0
        if width > _MOST_NUMBERS:
            found[_WHOLE + names[position]] = 0, {(): [0]}
            continue
        lasts = gathered.get(leading)
        if lasts is None:
            gathered[leading] = [last]
        else:
            lasts.append(last)
    return {text: held for text, held in found.items() if held[1]}


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
