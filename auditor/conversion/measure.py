"""Compares one pair of weights: by its values where these are read, else by its bytes."""

from collections.abc import Callable, Iterator

import numpy as np

from auditor.content.device import Bytes
from auditor.content.plan import STRIP_BYTES
from auditor.conversion.facts import Pair, PairValues, Place
from auditor.conversion.outcome import Outcome
from auditor.conversion.plan import strips
from auditor.conversion.streams import Stream
from auditor.conversion.values import READ, Values, same, told

_MOST_ROWS = 1 << 23


class Comparer:
    """One thread's way to compare pairs. `tick` is told the bytes read, and may raise to stop."""

    def __init__(self, old: Stream, new: Stream, slab: int, tick: Callable[[int], None]) -> None:
        self.streams = (old, new)
        self._slab = slab
        self._tick = tick

    def compare(self, pair: Pair) -> PairValues:
        """What a pair shows. Raises ReadError for what cannot be read."""
        packed = pair.old.packed or pair.new.packed
        reason = _unfit(pair)
        if reason:
            return told(pair, Outcome("not_compared" if packed else "different"), reason=reason)
        large = _too_large(pair)
        if pair.old.dtype in READ and pair.new.dtype in READ and not packed and not large:
            return Values(self.streams, pair).compared(self.runs(pair))
        if pair.old.dtype != pair.new.dtype or pair.old.scale is not None or pair.new.scale is not None:
            return told(pair, Outcome("not_compared"), reason=large)
        return self._bytes(pair)

    def _bytes(self, pair: Pair) -> PairValues:
        """A pair of which the bytes are all that is compared."""
        read = 0
        for first, last in pair.rows or ((0, pair.old.rows),):
            end = pair.old.bytes if last == pair.old.rows else last * pair.old.row_bytes
            for begin in range(first * pair.old.row_bytes, end, self._slab):
                stop = min(end, begin + self._slab)
                one, other = (
                    stream.run(each.file, each.begin + begin, each.begin + stop)
                    for stream, each in zip(self.streams, (pair.old, pair.new), strict=True)
                )
                self._tick(one.size + other.size)
                read += one.size + other.size
                if not same(one, other):
                    if pair.old.packed:
                        return told(pair, Outcome("not_compared"), reason=f"values of {pair.old.packed}", read=read)
                    return told(pair, Outcome("different"), first=_byte_place(pair, begin, one, other), read=read)
        return told(pair, Outcome("same_bytes"), read=read)

    def runs(self, pair: Pair) -> Iterator[tuple[int, Bytes, Bytes]]:
        """Strips of both sides as they are stored, each with its first row; gone with the next one."""
        for first, last in pair.rows or ((0, pair.old.rows),):
            for top, bottom in strips(pair, first, last, self._slab):
                one, other = (
                    stream.run(each.file, each.begin + top * each.row_bytes, each.begin + bottom * each.row_bytes)
                    for stream, each in zip(self.streams, (pair.old, pair.new), strict=True)
                )
                self._tick(one.size + other.size)
                yield top, one, other


def _unfit(pair: Pair) -> str:
    """Why a pair's elements cannot be held against each other; empty where they can."""
    old, new = pair.old, pair.new
    if old.packed or new.packed:
        if (old.packed, old.dtype, old.shape) == (new.packed, new.dtype, new.shape):
            return ""
        return f"values of {' and '.join(dict.fromkeys(each.packed for each in (old, new) if each.packed))}"
    if old.shape != new.shape:
        return f"its shape is {new.shape}, OLD's is {old.shape}"
    if old.dtype != new.dtype and not (old.dtype in READ and new.dtype in READ):
        return f"its dtype is {new.dtype}, OLD's is {old.dtype}"
    return ""


def _too_large(pair: Pair) -> str:
    """Why the values of a pair take more memory than they may; empty where they do not."""
    if max(pair.old.row_bytes, pair.new.row_bytes) > STRIP_BYTES:
        return f"values of rows of more than {STRIP_BYTES:,} bytes"
    if any(each.scale is not None and not each.scale.whole for each in (pair.old, pair.new)):
        return f"values with more than {STRIP_BYTES:,} bytes of scales"
    return f"values of more than {_MOST_ROWS:,} rows" if pair.old.rows > _MOST_ROWS else ""


def _byte_place(pair: Pair, begin: int, one: Bytes, other: Bytes) -> Place:
    """The first element that differs in runs from byte `begin` of both tensors on."""
    width = max(1, pair.new.row_bytes // max(1, pair.new.columns))
    inside = int(np.argmax(one != other)) // width * width
    row, column = divmod((begin + inside) // width, max(1, pair.new.columns))
    old, new = (f"0x{each[inside:][:width].tobytes()[::-1].hex()}" for each in (one, other))
    place = pair.new.begin + begin + inside
    return Place(row, column, old, new, place, place + width)
