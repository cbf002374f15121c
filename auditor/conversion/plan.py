"""What is read of both sides, and in which order: the files of one side, each from its begin to its end.

The side with more bytes leads, since reading it in order matters more; what the other side has for a weight is read
beside it. Converters write tensors in the order in which they read them, so that the other side's reads mostly follow
each other too, in one file or from one to the next.
"""

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import lcm

from msgspec import Struct
from msgspec.structs import replace

from auditor.content.plan import STRIP_BYTES
from auditor.conversion.facts import Pair, Stored

_STRIP_ROWS = 128  # of a sample, where blocks are lower


class Task(Struct, frozen=True):
    """The pairs whose leading sides are in one file, in its order."""

    file: str
    pairs: tuple[Pair, ...]

    @property
    def bytes(self) -> int:
        """Bytes of both sides to read."""
        return sum(pair.bytes for pair in self.pairs)


def tasks_of(pairs: Sequence[Pair]) -> tuple[Task, ...]:
    """The pairs by the leading side's files, in the order of these; the largest files first would gain little."""
    by_old = sum(pair.old.bytes for pair in pairs) > sum(pair.new.bytes for pair in pairs)
    groups: dict[str, list[tuple[Stored, Pair]]] = {}
    for pair in pairs:
        leading = pair.old if by_old else pair.new
        groups.setdefault(leading.file, []).append((leading, pair))
    return tuple(
        Task(file, tuple(pair for _, pair in sorted(held, key=lambda each: (each[0].begin, each[0].end))))
        for file, held in sorted(groups.items())
    )


def strip_rows(pair: Pair, slab: int) -> int:
    """How many rows are compared at once: whole rows of both sides' blocks where these fit, about a slab together."""
    row = max(1, pair.old.row_bytes, pair.new.row_bytes)
    step = lcm(*(_height(each) for each in (pair.old, pair.new)))
    if step * row > STRIP_BYTES:
        step = 1
    return max(step, slab // row // step * step)


def aligned(pair: Pair) -> bool:
    """Whether a strip holds whole blocks."""
    row = max(1, pair.old.row_bytes, pair.new.row_bytes)
    return lcm(*(_height(each) for each in (pair.old, pair.new))) * row <= STRIP_BYTES


def _height(stored: Stored) -> int:
    if stored.blocks is None:
        return 1
    return min(stored.blocks.shape[0], max(1, stored.rows // stored.blocks.chunks))


def chunks_of(pair: Pair) -> int:
    """In how many equal parts of the rows blocks begin anew."""
    return lcm(*(1 if each.blocks is None else each.blocks.chunks for each in (pair.old, pair.new)))


def strips(pair: Pair, first: int, last: int, slab: int) -> Iterator[tuple[int, int]]:
    """A range of rows in strips, which end where blocks begin anew."""
    chunk = pair.old.rows // chunks_of(pair)
    height = strip_rows(pair, slab)
    while first < last:
        end = min(last, (first // chunk + 1) * chunk)
        inside = first % chunk
        stop = min(end, first - inside % height + height)
        yield first, stop
        first = stop


def sampled(pairs: Iterable[Pair], *, seed: int, budget: int) -> tuple[Pair, ...]:
    """Strips of pairs chosen at random within a budget of bytes.

    Each pair has one before any has two, in an order that the seed decides.
    """
    draw = random.Random(hashlib.sha256(f"values {seed}".encode()).digest())  # noqa: S311  # a sample, not a secret
    waiting = [(pair, _pieces(pair, draw)) for pair in sorted(pairs, key=lambda pair: pair.new.name)]
    draw.shuffle(waiting)
    chosen: dict[str, list[tuple[int, int]]] = {}
    taken: dict[str, Pair] = {}
    while waiting and budget > 0:
        going = []
        for pair, pieces in waiting:
            rows = pieces.pop()
            cost = (rows[1] - rows[0]) * (pair.old.row_bytes + pair.new.row_bytes)
            if pair.new.name not in taken:
                cost += sum(each.scale.bytes for each in (pair.old, pair.new) if each.scale is not None)
            if cost > budget:
                continue
            budget -= cost
            taken[pair.new.name] = pair
            chosen.setdefault(pair.new.name, []).append(rows)
            if pieces:
                going.append((pair, pieces))
        waiting = going
    return tuple(_of_rows(pair, sorted(chosen[name])) for name, pair in taken.items())


def _of_rows(pair: Pair, rows: list[tuple[int, int]]) -> Pair:
    whole = rows[0][0] == 0 and rows[-1][1] == pair.old.rows
    joined = all(before[1] == after[0] for before, after in pairwise(rows))
    return replace(pair, rows=() if whole and joined else tuple(rows))


def _pieces(pair: Pair, draw: random.Random) -> list[tuple[int, int]]:
    """The strips of a pair in random order, of one dimension the whole."""
    if len(pair.old.shape) < 2:
        return [(0, pair.old.rows)]
    row = max(1, pair.old.row_bytes, pair.new.row_bytes)
    pieces = list(strips(pair, 0, pair.old.rows, _STRIP_ROWS * row))
    draw.shuffle(pieces)
    return pieces


def ranges(pairs: Iterable[Pair], side: int) -> Iterator[tuple[str, int, int]]:
    """What will be read of one side, in order, without scales."""
    for pair in pairs:
        stored = (pair.old, pair.new)[side]
        for first, last in pair.rows or ((0, stored.rows),):
            yield stored.file, stored.begin + first * stored.row_bytes, stored.begin + last * stored.row_bytes
