"""What codes, pages, rows and strips look like: of one sign, small throughout, there twice, of odd exponents."""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from auditor.content.device import PAGE, Bytes, Extremes
from auditor.content.fp8 import CLAMP, LARGEST
from auditor.content.kernels import looks
from auditor.content.kernels.strips import CHUNK
from auditor.content.plan import STRIP_ROWS, Part
from auditor.content.probes import Position, RowValues, Texture

Floats = npt.NDArray[np.float32]
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
        self._runs = np.zeros((2, 3), np.int64)
        self._share = 0.0
        self._worst: Position | None = None
        self._pages = self._small_pages = 0
        self._open: _Page | None = None
        self._begin = self._end = -1  # of what was read in one go

    def add(self, strip: Bytes, place: int, extremes: Extremes, scale_rc: Floats) -> None:
        """A strip of whole rows of blocks from byte `place` of the file on, with the scales of its blocks."""
        if not self._looks:
            return
        if place != self._end:  # a sample has gaps
            self._open, self._begin = None, place
            self._runs[:, looks.PRESENT] = 0
        self._end = place + strip.size
        self._look_at_runs(strip, place, extremes, scale_rc)
        self._add_pages(strip, place, extremes.small)

    def _look_at_runs(self, strip: Bytes, place: int, extremes: Extremes, scale_rc: Floats) -> None:
        if not extremes.alike_r.any():
            self._runs[:, looks.PRESENT] = 0
            return
        largest_rc = np.maximum(extremes.signed_rc.view(np.uint8) & 0x7F, extremes.unsigned_rc & 0x7F)
        with np.errstate(invalid="ignore"):
            counted_rc = (largest_rc > 0) & (scale_rc > _EMPTY) & (extremes.alike_r > 0)[:, None]
        if not counted_rc.any():
            self._runs[:, looks.PRESENT] = 0
            return
        looks.find_runs(strip, self._part.shape[1], *self._block, counted_rc, place, self._runs)

    def _run(self, kind: int) -> tuple[int, Position | None]:
        """The longest run of a kind, in codes, and where it is."""
        chunks, begin = int(self._runs[kind, looks.LONGEST]), int(self._runs[kind, looks.BEGAN])
        if not chunks:
            return 0, None
        size = chunks * CHUNK
        return size, Position(begin - self._part.begin, begin, begin + size, f"{size:,} codes")

    def _add_pages(self, strip: Bytes, place: int, small: npt.NDArray[np.int32]) -> None:
        """Judge the pages that end with this strip; of the last one more may come with the next."""
        end = self._end
        first, ends = place - place % PAGE, end == self._part.end
        counts, before = small, b""
        if self._open is not None:
            counts, before = small.copy(), self._open.codes
            counts[0] += self._open.small
        whole = counts.size if ends or end % PAGE == 0 else counts.size - 1
        self._pages += whole
        most = int(counts.max())
        for number in np.flatnonzero(counts[:whole] > _LOOK * _ENOUGH).tolist() if most > _LOOK * _ENOUGH else ():
            begin = first + number * PAGE
            codes = strip[max(0, begin - place) : begin + PAGE - place]
            if number == 0 and before:
                codes = np.concatenate([np.frombuffer(before, np.uint8), codes])
            self._look_at_page(codes, max(begin, self._begin), int(counts[number]))
        usual = counts[:whole]
        if most > _LOOK * _ENOUGH:
            usual = usual[usual <= _LOOK * _ENOUGH]
        if most > self._share * PAGE and usual.size and usual.max() > self._share * PAGE:
            begin = first + int(np.argmax(counts[:whole] == usual.max())) * PAGE
            self._keep(float(usual.max()) / PAGE, max(begin, self._begin))
        self._open = None
        if whole < counts.size:
            rest = strip[max(0, first + whole * PAGE - place) :].tobytes()
            self._open = _Page(before + rest if whole == 0 else rest, int(counts[-1]))

    def _look_at_page(self, codes: Bytes, begin: int, small: int) -> None:
        share = small / codes.size
        if codes.size < _ENOUGH:
            return
        if share > _LOOK and np.bincount((codes & 0x7F) >> 4, minlength=8).min() < _LEAST * codes.size:
            return
        self._small_pages += share > 2 * _LOOK
        if share > self._share:
            self._keep(share, begin)

    def _keep(self, share: float, begin: int) -> None:
        stop = min(begin - begin % PAGE + PAGE, self._part.end)
        self._share = share
        self._worst = Position(begin - self._part.begin, begin, stop, f"{100 * share:.1f} %")

    def result(self) -> Texture:
        """What has been seen."""
        zeros, first_zeros = self._run(looks.ZEROS)
        sign, first_sign = self._run(looks.ONE_SIGN)
        return Texture(
            pages=self._pages if self._looks else 0,
            small=self._share,
            small_pages=int(self._small_pages),
            zero_run=zeros,
            sign_run=sign,
            first_small=self._worst,
            first_zeros=first_zeros,
            first_sign=first_sign,
        )


class Pages:
    """The pages of a tensor that hold what the page of the file before them holds, and not one byte throughout."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._kept = np.zeros(0, np.uint8)
        self._end = -1
        self.doubled = 0
        self.first: Position | None = None

    def add(self, run: Bytes, place: int) -> None:
        """A run of the tensor's bytes from byte `place` of the file on."""
        if place != self._end:
            self._kept = self._kept[:0]
        self._end = place + run.size
        if self._kept.size:  # pages that begin before the run, each with the one after it
            begin = place - self._kept.size
            self._find(np.concatenate([self._kept, run[: 2 * PAGE]]), begin, -begin % PAGE, self._kept.size)
        self._find(run, place, -place % PAGE, run.size)
        kept = run if run.size >= 2 * PAGE else np.concatenate([self._kept, run])
        self._kept = kept[-(2 * PAGE - 1) :].copy()

    def _find(self, run: Bytes, place: int, first: int, last: int) -> None:
        count, where = looks.find_doubled(run, first, last)
        self.doubled += count
        if where >= 0 and self.first is None:
            begin = place + where
            self.first = Position(begin - self._part.begin, begin, begin + PAGE, f"{PAGE:,} bytes")


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
        numbers = looks.mix_rows(run, self._part.row_bytes)
        self._rows += numbers.size
        self._zeros += int(np.count_nonzero(numbers == 0))
        if self._twice:
            self._numbers.append(numbers[numbers != 0])

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
        if self._every == 1:
            looks.count_exponents(run.view(self._codes), self._shift, self._counts)
            return
        step = self._every * PAGE
        for begin in range((self._begin - place) % step, run.size, step):
            looks.count_exponents(run[begin : begin + PAGE].view(self._codes), self._shift, self._counts)

    def result(self) -> dict[int, int]:
        """By floor(log2(|value|)); what is 0, subnormal or no number is left out."""
        return {each - 127: int(self._counts[each]) for each in range(1, 255) if self._counts[each]}
