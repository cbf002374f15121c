"""The inventory of an audit without a family in patterns, from the numbers that were taken apart already."""

from collections.abc import Iterator, Mapping, Sequence

from auditor.comparison.structure.patterns import MARK, Pattern, is_whole, shown_pattern
from auditor.format.entries import Kind
from auditor.patterns import escaped
from auditor.reporting.summary import MOST, file_patterns
from auditor_schemas.inventory import LayoutRow

# A run of last numbers, and the shards that hold it.
_Run = tuple[int, int, tuple[str, ...]]
_Places = Sequence[tuple[int, str]]


def layout_of(patterns: Mapping[str, Pattern]) -> tuple[tuple[LayoutRow, ...], int]:
    """Every tensor in patterns of one shape and dtype, with the shards that hold them; and how many are left out."""
    shown: dict[tuple[str, ...], tuple[str, ...]] = {}
    found: list[tuple[str, Kind, tuple[str, ...], int]] = []
    for pattern in patterns.values():
        for kind in pattern.kinds:
            for text, files, count in _rows(pattern, kind):
                if files not in shown:
                    shown[files] = file_patterns(files)
                found.append((text, kind, shown[files], count))
    found.sort()
    rows = (
        LayoutRow(pattern=text, shape=shape, dtype=dtype, files=files, count=count)
        for text, (dtype, shape), files, count in found[:MOST]
    )
    return tuple(rows), len(found[MOST:])


def _rows(pattern: Pattern, kind: Kind) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """The patterns of one kind: runs of the last numbers, and runs of those before them that have the same."""
    alike: dict[tuple[tuple[int, ...], int, int], dict[int | None, tuple[str, ...]]] = {}
    for leading, lasts in pattern.kinds[kind].items():
        for first, last, files in _runs(lasts, pattern.places[kind][leading]):
            number = leading[-1] if leading else None
            alike.setdefault((leading[:-1], first, last), {})[number] = files
    if is_whole(pattern.text):
        pieces = [escaped(shown_pattern(pattern.text))]
    else:
        pieces = [escaped(piece) for piece in pattern.text.split(MARK)]
    for (fixed, first, last), by_number in alike.items():
        for begin, end in _spans(by_number):
            here = [by_number[None]] if begin is None or end is None else [by_number[n] for n in range(begin, end + 1)]
            numbers = [*map(str, fixed), *([] if begin is None else [_span(begin, end)]), _span(first, last)]
            text = pieces[-1]
            if len(pieces) > 1:
                text = "".join(f"{piece}{number}" for piece, number in zip(pieces[:-1], numbers, strict=True)) + text
            files = here[0] if len(set(here)) == 1 else tuple(sorted({file for each in here for file in each}))
            yield text, files, len(here) * (last - first + 1)


def _runs(lasts: Sequence[int], places: _Places) -> Iterator[_Run]:
    """The runs of numbers, each with the shards that hold a part of it."""
    ordered = sorted(set(lasts))
    every = tuple(sorted({file for _, file in places}))
    if ordered[-1] - ordered[0] == len(ordered) - 1:
        yield ordered[0], ordered[-1], every
        return
    ends = [*(begin for begin, _ in places[1:]), len(lasts)]
    holder = {number: file for (begin, file), end in zip(places, ends, strict=True) for number in lasts[begin:end]}
    for first, last in _spans(dict.fromkeys(ordered)):
        assert first is not None
        assert last is not None
        yield first, last, tuple(sorted({holder[number] for number in range(first, last + 1)}))


def _spans(numbers: Mapping[int | None, object] | Mapping[int, object]) -> Iterator[tuple[int | None, int | None]]:
    """The runs of some numbers; no number is a run by itself."""
    ordered = sorted(number for number in numbers if number is not None)
    if len(ordered) < len(numbers):
        yield None, None
    begin = 0
    for position, number in enumerate(ordered):
        if position + 1 == len(ordered) or ordered[position + 1] != number + 1:
            yield ordered[begin], number
            begin = position + 1


def _span(first: int | None, last: int | None) -> str:
    return str(first) if first == last else f"{{{first}-{last}}}"
