"""What codes, pages, rows and strips look like: of one sign, small throughout, there twice, of odd exponents."""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash
from msgspec.structs import replace

from auditor.content.device import Bytes, Extremes
from auditor.content.fp8 import CLAMP, LARGEST
from auditor.content.kernels import looks
from auditor.content.kernels.strips import CHUNK, sum_rows
from auditor.content.plan import PAGE, STRIP_ROWS, Part
from auditor.content.values import Position, RowValues, Texture

Floats = npt.NDArray[np.float32]
Run = tuple[int, int, int, int, int]  # as `looks` has it
Runs = tuple[Run, Run]
# A page with a share of small codes above this is looked at again: it is odd only where each sixteen of the 128
# magnitudes has its share as well, as those of random bytes do. Blocks with one weight far above the rest have small
# codes alone; channels that decayed leave few between those and the others.
_LOOK, _LEAST = 1 / 16, 1 / 32
# Of fewer codes no share is told.
_ENOUGH = PAGE // 2
# Scales up to here are those of blocks that are empty, or all but.
_EMPTY = CLAMP / LARGEST * np.float32(2.5)

# Of tensors above the one size one page in so many is enough to know the exponents of the whole.
_SMALL_BYTES, _EVERY = 1 << 20, 8


class _Page(NamedTuple):
    """A page of which more is to come: its codes so far, and how many of its chunks are small."""

    codes: bytes
    small: int


class CodeTexture:
    """What has been seen of the codes of one weight, strip after strip."""

    def __init__(self, part: Part, block: tuple[int, int]) -> None:
        self._part = part
        self._block = block
        self._looks = block[1] % CHUNK == 0
        self._runs = np.zeros((2, 5), np.int64)
        self._share = 0.0
        self._worst: Position | None = None
        self._pages = self._small_pages = 0
        self._open: _Page | None = None
        self._begin = self._end = -1  # of what was read in one go
        # A piece judges no page that it shares with the one before it.
        self._shared = part.own_begin + (-part.own_begin % PAGE if part.own_begin != part.begin else 0)
        self._small_head = 0

    def add(self, strip: Bytes, place: int, extremes: Extremes, scale_rc: Floats, *, alike: int, most: int) -> None:
        """A strip of whole rows of blocks from byte `place` of the file on, with the scales of its blocks.

        `alike` of its chunks are of one sign, and no page has more than `most` small codes.
        """
        if not self._looks:
            return
        if place != self._end:  # a sample has gaps
            if self._end >= 0:
                self._break_runs()
            self._open, self._begin = None, place
        self._end = place + strip.size
        if alike:
            self._look_at_runs(strip, place, extremes, scale_rc)
        else:
            self._break_runs()
        self._add_pages(strip, place, extremes.small, most)

    def _look_at_runs(self, strip: Bytes, place: int, extremes: Extremes, scale_rc: Floats) -> None:
        largest_rc = np.maximum(extremes.signed_rc.view(np.uint8) & 0x7F, extremes.unsigned_rc & 0x7F)
        with np.errstate(invalid="ignore"):
            counted_rc = (largest_rc > 0) & (scale_rc > _EMPTY) & (extremes.alike_r > 0)[:, None]
        if not counted_rc.any():
            self._break_runs()
            return
        looks.find_runs(strip, self._part.shape[1], *self._block, counted_rc, place, self._runs)

    def _break_runs(self) -> None:
        self._runs[:, looks.PRESENT] = 0
        self._runs[:, looks.BROKEN] = 1

    def _add_pages(self, strip: Bytes, place: int, small: npt.NDArray[np.int32], most: int) -> None:
        """Judge the pages that end with this strip; of the last one more may come with the next."""
        end = self._end
        if place < self._shared:
            self._small_head += int(small[0])
            if end <= self._shared:
                return
            strip, small, place = strip[self._shared - place :], small[1:], self._shared
        first, ends = place - place % PAGE, end == self._part.end
        before = b""
        if self._open is not None:
            before = self._open.codes
            small[0] += self._open.small
            most = max(most, int(small[0]))
        whole = small.size if ends or end % PAGE == 0 else small.size - 1
        self._pages += whole
        if most > min(self._share * PAGE, _LOOK * _ENOUGH):
            self._judge_pages(strip, place, small[:whole], before)
        self._open = None
        if whole < small.size:
            rest = strip[max(0, first + whole * PAGE - place) :].tobytes()
            self._open = _Page(before + rest if whole == 0 else rest, int(small[-1]))

    def _judge_pages(self, strip: Bytes, place: int, counts: npt.NDArray[np.int32], before: bytes) -> None:
        """Whole pages, of which one may hold more small codes than any so far; the first begins with those `before`."""
        first = place - place % PAGE
        many = counts > _LOOK * _ENOUGH
        for number in np.flatnonzero(many).tolist():
            begin = first + number * PAGE
            codes = strip[max(0, begin - place) : begin + PAGE - place]
            if number == 0 and before:
                codes = np.concatenate([np.frombuffer(before, np.uint8), codes])
            self._look_at_page(codes, max(begin, self._begin), int(counts[number]))
        usual = np.where(many, 0, counts)
        if usual.size and usual.max() > self._share * PAGE:
            number = int(np.argmax(usual))
            self._keep(float(usual[number]) / PAGE, max(first + number * PAGE, self._begin))

    def _look_at_page(self, codes: Bytes, begin: int, small: int) -> None:
        share = small / codes.size
        if not _is_odd(codes, share):
            return
        self._small_pages += share > 2 * _LOOK
        if share > self._share:
            self._keep(share, begin)

    def _keep(self, share: float, begin: int) -> None:
        self._share, self._worst = share, _page_at(self._part, share, begin)

    @property
    def runs(self) -> Runs:
        """The runs as they stand."""
        zeros, sign = ((a, b, c, d, e) for a, b, c, d, e in self._runs.tolist())
        return zeros, sign

    @property
    def small(self) -> tuple[int, int]:
        """How many small codes there are in the pages that a piece shares with those around it."""
        return self._small_head, 0 if self._open is None else self._open.small

    def result(self) -> Texture:
        """What has been seen."""
        found = Texture(self._pages, self._share, int(self._small_pages), first_small=self._worst)
        return _with_runs(found, self._part, self.runs)


def _is_odd(codes: Bytes, share: float) -> bool:
    """Whether a share of small codes in a page tells anything."""
    if codes.size < _ENOUGH:
        return False
    return share <= _LOOK or bool(np.bincount((codes & 0x7F) >> 4, minlength=8).min() >= _LEAST * codes.size)


def _page_at(part: Part, share: float, begin: int) -> Position:
    stop = min(begin - begin % PAGE + PAGE, part.end)
    return Position(begin - part.begin, begin, stop, f"{100 * share:.1f} %")


def _with_runs(found: Texture, part: Part, runs: Runs) -> Texture:
    """The texture with the longest runs, in codes, and where they are."""
    sizes, places = [], []
    for run in runs:
        size, begin = run[looks.LONGEST] * CHUNK, run[looks.BEGAN]
        sizes.append(size)
        places.append(Position(begin - part.begin, begin, begin + size, f"{size:,} codes") if size else None)
    return replace(
        found,
        zero_run=sizes[looks.ZEROS],
        sign_run=sizes[looks.ONE_SIGN],
        first_zeros=places[looks.ZEROS],
        first_sign=places[looks.ONE_SIGN],
    )


def joined_runs(part: Part, left: Runs, right: Runs, place: int) -> Runs:
    """The runs of two pieces, of which the second begins at byte `place`."""
    columns = part.shape[1]
    zeros, sign = (_joined_run(*pair, columns, place) for pair in zip(left, right, strict=True))
    return zeros, sign


def _joined_run(left: Run, right: Run, columns: int, place: int) -> Run:
    present, longest, began, leading, broken = left
    through = present + right[looks.LEADING]
    if right[looks.LEADING] and through > longest:
        row, chunk = divmod(right[looks.LEADING] - 1, columns // CHUNK)
        longest, began = through, place + row * columns + (chunk + 1 - through) * CHUNK
    if right[looks.LONGEST] > longest:
        longest, began = right[looks.LONGEST], right[looks.BEGAN]
    leading += 0 if broken else right[looks.LEADING]
    present = right[looks.PRESENT] if right[looks.BROKEN] else through
    return present, longest, began, leading, broken | right[looks.BROKEN]


def joined_texture(
    part: Part, left: Texture, right: Texture, runs: Runs, page: tuple[bytes, int, int] | None
) -> Texture:
    """The texture of two pieces, with the page between them: its codes, how many are small, and where it begins."""
    pages, small_pages = left.pages + right.pages, left.small_pages + right.small_pages
    share, worst = left.small, left.first_small
    if page is not None:
        codes, small, begin = page
        pages += 1
        found = small / PAGE
        odd = small <= _LOOK * _ENOUGH or _is_odd(np.frombuffer(codes, np.uint8), found)
        small_pages += odd and found > 2 * _LOOK
        if odd and found > share:
            share, worst = found, _page_at(part, found, begin)
    if right.small > share:
        share, worst = right.small, right.first_small
    return _with_runs(Texture(pages, share, small_pages, first_small=worst), part, runs)


class Pages:
    """The pages of a tensor that hold what the page of the file before them holds, and not one byte throughout."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._kept = self._head = np.zeros(0, np.uint8)
        self._end = -1
        self.doubled = 0
        self.first: Position | None = None

    def add(self, run: Bytes, place: int) -> None:
        """A run of the tensor's bytes from byte `place` of the file on."""
        if place != self._end:
            self._kept = self._kept[:0]
        self._end = place + run.size
        if self._part.piece and self._head.size < 2 * PAGE - 1:
            self._head = np.concatenate([self._head, run[: 2 * PAGE - 1 - self._head.size]])
        if self._kept.size:  # pages that begin before the run, each with the one after it
            begin = place - self._kept.size
            self._find(np.concatenate([self._kept, run[: 2 * PAGE]]), begin, -begin % PAGE, self._kept.size)
        self._find(run, place, -place % PAGE, run.size)
        kept = run if run.size >= 2 * PAGE else np.concatenate([self._kept, run])
        self._kept = kept[-(2 * PAGE - 1) :].copy()

    def _find(self, run: Bytes, place: int, first: int, last: int) -> None:
        count, found = _doubled(self._part, run, place, first, last)
        self.doubled += count
        self.first = self.first or found

    @property
    def ends(self) -> tuple[bytes, bytes]:
        """The first and the last bytes, which pages share with the pieces around this one."""
        return self._head.tobytes(), self._kept.tobytes()


def _doubled(part: Part, run: Bytes, place: int, first: int, last: int) -> tuple[int, Position | None]:
    count, where = looks.find_doubled(run, first, last)
    begin = place + where
    return count, Position(begin - part.begin, begin, begin + PAGE, f"{PAGE:,} bytes") if where >= 0 else None


def doubled_between(part: Part, tail: bytes, head: bytes, place: int) -> tuple[int, Position | None]:
    """How many pages that begin before byte `place` the next page repeats behind it, from the bytes on both sides."""
    if not tail or not head:
        return 0, None
    begin = place - len(tail)
    return _doubled(part, np.frombuffer(bytearray(tail + head), np.uint8), begin, -begin % PAGE, len(tail))


class Strips:
    """A number for each strip of 128 rows (of all bytes, where there are fewer), alike where strips are."""

    def __init__(self, part: Part) -> None:
        self._size = max(1, STRIP_ROWS * part.row_bytes if len(part.shape) > 1 else part.end - part.begin)
        self._begin = part.begin
        self._hasher = xxhash.xxh3_64()
        self._held = 0
        self._numbers: list[int] = []

    def add(self, run: Bytes, place: int) -> None:  # noqa: ARG002  # as all that look at runs
        """A run of bytes, the first of which begins a strip."""
        at = 0
        while at < run.size:
            stop = min(run.size, at + self._size - self._held)
            self._hasher.update(run[at:stop].data)
            self._held += stop - at
            at = stop
            if self._held == self._size:
                self._close()

    def _close(self) -> None:
        if self._held:
            self._numbers.append(0 if self._hasher.intdigest() == _zeros(self._held) else self._hasher.intdigest())
        self._hasher.reset()
        self._held = 0

    def result(self) -> bytes:
        """The numbers of what was read, 0 for strips of zeros."""
        self._close()
        return np.array(self._numbers, "<u8").tobytes()


@cache
def _zeros(size: int) -> int:
    """What so many bytes of zeros have."""
    return int(xxhash.xxh3_64_intdigest(bytes(size)))


class Rows:
    """The rows of a matrix: how many are zeros, and, where that is asked, how many are there twice."""

    def __init__(self, part: Part, *, twice: bool) -> None:
        self._part = part
        self._twice = twice
        self._numbers: list[npt.NDArray[np.uint64]] = []
        self._zeros = self._rows = 0

    def add(self, run: Bytes, place: int) -> None:  # noqa: ARG002  # as above
        """A run of whole rows."""
        self._rows += run.size // self._part.row_bytes
        if not self._twice:
            self._zeros += looks.count_zero_rows(run, self._part.row_bytes)
            return
        numbers = sum_rows(run, self._part.row_bytes)
        held = numbers[numbers != 0]
        self._zeros += numbers.size - held.size
        self._numbers.append(held)

    def result(self) -> RowValues:
        """What has been seen."""
        doubled = 0
        if self._numbers:
            numbers = np.concatenate(self._numbers)
            doubled = numbers.size - np.unique(numbers).size
        return RowValues(self._rows, self._zeros, int(doubled))


class Exponents:
    """How often values have each exponent, over an eighth of the pages of what is large."""

    def __init__(self, part: Part) -> None:
        self._codes, self._shift = ("<u2", 7) if part.dtype == "BF16" else ("<u4", 23)
        self._every = 1 if part.end - part.begin <= _SMALL_BYTES else _EVERY
        self._begin = part.begin
        self._counts = np.zeros(256, np.int64)

    def add(self, run: Bytes, place: int) -> None:
        """A run of the tensor's bytes."""
        codes = run.view(self._codes)
        size = PAGE // codes.itemsize
        first = -((place - self._begin) % (self._every * PAGE))
        looks.count_exponents(codes, first // codes.itemsize, size, self._every * size, self._shift, self._counts)

    def result(self) -> dict[int, int]:
        """By floor(log2(|value|)); what is 0, subnormal or no number is left out."""
        return {each - 127: int(self._counts[each]) for each in range(1, 255) if self._counts[each]}
