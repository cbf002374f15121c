"""The geometry of the page's charts: plain numbers, which templates write as SVG."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from auditor_reports import text

# A column chart has room for so many columns; beyond, neighbours share one that shows the larger.
COLUMNS = 400
LEVELS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column in a chart of 1,000 by 100 units, `y` from above."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnChart:
    """Columns with the words around them; `description` says for a reader what the drawing shows."""

    columns: tuple[Column, ...]
    highest: str
    first: str
    last: str
    description: str


def column_chart(
    values: Sequence[tuple[str, int]], worded: Callable[[int], str], description: str, *, gap: float = 0.15
) -> ColumnChart | None:
    """Labelled values as columns; None where there is nothing to draw."""
    highest = max((value for _, value in values), default=0)
    if not highest:
        return None
    share = -(-len(values) // COLUMNS)
    merged = [max(values[i : i + share], key=lambda each: each[1]) for i in range(0, len(values), share)]
    pitch = 1000 / len(merged)
    columns = []
    for position, (label, value) in enumerate(merged):
        height = max(1.0, 100 * value / highest) if value else 0.0
        columns.append(
            Column(
                x=round(position * pitch + pitch * gap / 2, 2),
                y=round(100 - height, 2),
                width=round(pitch * (1 - gap), 2),
                height=round(height, 2),
                title=text.shown(f"{label}: {worded(value)}"),
            )
        )
    return ColumnChart(
        columns=tuple(columns),
        highest=worded(highest),
        first=text.shown(values[0][0]),
        last=text.shown(values[-1][0]),
        description=description,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a bar of 1,000 units."""

    kind: str
    x: float
    width: float
    title: str


def stack(parts: Iterable[tuple[str, int, str]], whole: int) -> tuple[Segment, ...]:
    """Parts (kind, value, title) of a whole, side by side; what is not nothing stays visible."""
    segments, x = [], 0.0
    for kind, value, title in parts:
        if not value or not whole:
            continue
        width = max(2.0, 1000 * value / whole)
        segments.append(
            Segment(kind=kind, x=round(min(x, 998), 2), width=round(min(width, 1000 - min(x, 998)), 2), title=title)
        )
        x += width
    return tuple(segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatCell:
    """One cell: its place in pixels, its shade from 1 to LEVELS, and what it says."""

    x: int
    y: int
    level: int
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Rows of shares, each row's shades over its own sum; labels with their places in pixels."""

    width: int
    height: int
    cell: tuple[int, int]
    cells: tuple[HeatCell, ...]
    across: tuple[tuple[int, str], ...]
    down: tuple[tuple[int, str], ...]
    description: str


LEFT, TOP, ROW = 34, 22, 11


def heat_map(
    rows: Mapping[str, Mapping[int, int]], worded: Callable[[int], str], description: str, *, room: int = 320
) -> HeatMap | None:
    """How each row's counts are spread over numbered columns; None where nothing was counted."""
    numbers = sorted({number for counts in rows.values() for number, count in counts.items() if count})
    if not numbers:
        return None
    low, high = numbers[0], numbers[-1]
    # Far outliers share the edge columns, so that one of them cannot squeeze the rest out of sight.
    low = max(low, high - 39)
    columns = high - low + 1
    width = max(7, min(26, room // columns))
    cells = []
    for position, (row, counts) in enumerate(rows.items()):
        merged: dict[int, int] = {}
        for number, count in counts.items():
            merged[max(low, number)] = merged.get(max(low, number), 0) + count
        whole = sum(merged.values())
        for number, count in sorted(merged.items()):
            if not count:
                continue
            cells.append(
                HeatCell(
                    x=LEFT + (number - low) * width,
                    y=TOP + position * ROW,
                    level=max(1, min(LEVELS, -(-LEVELS * count // whole))),
                    title=f"{row}, {worded(number)}: {count:,} ({text.share(count, whole)})",
                )
            )
    step = max(1, -(-40 // width)) if columns > 8 else max(1, -(-30 // width))
    across = tuple(
        (
            LEFT + (number - low) * width + width // 2,
            f"{'≤ ' if number == low and numbers[0] < low else ''}{worded(number)}",
        )
        for number in range(low, high + 1, step)
    )
    labels = list(rows)
    every = 1 if len(labels) <= 12 else 5
    return HeatMap(
        width=LEFT + columns * width + 24,
        height=TOP + len(labels) * ROW + 2,
        cell=(width - 1, ROW - 1),
        cells=tuple(cells),
        across=across,
        down=tuple((TOP + i * ROW + 8, label) for i, label in enumerate(labels) if i % every == 0),
        description=description,
    )
