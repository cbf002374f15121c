"""Reads one shard, once and in order, and serves everything that looks at its bytes: values, blocks, digests.

A shard that is another one than its header's, or that changes while it is read, raises ReadError.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from auditor.content.blocks import Judge
from auditor.content.cpu import SLAB_BYTES
from auditor.content.device import Bytes, Device, Pending
from auditor.content.elements import Values
from auditor.content.integers import SaidShape, Table
from auditor.content.kernels.looks import most_of
from auditor.content.kernels.reduce import zeros_at_end
from auditor.content.kernels.strips import CHUNK
from auditor.content.plan import PAGE, STRIP_ROWS, Part, ScaleAt, ShardPlan
from auditor.content.scales import CodeSurvey, survey_of
from auditor.content.stored import as_floats
from auditor.content.texture import CodeTexture, Exponents, Pages, Rows, Strips
from auditor.content.values import Seam, ShardValues, TensorValues
from auditor.errors import ReadError, Unread, code_of
from auditor.sources import File, Source

Scales = npt.NDArray[np.float32]
_WIDEST = 4 << 20  # bytes of a row that is looked at as one
_FEW = 16  # one chunk in so many may be of one sign in a strip that is told from others


class ShardReader:
    """One thread's way to read shards. `tick` is told the bytes read, and may raise to stop the reading."""

    def __init__(self, source: Source, device: Device, *, digests: bool, tick: Callable[[int], None]) -> None:
        self.source = source
        self.device = device
        self.digests = digests
        self.tick = tick
        self.run_bytes = min(device.slab_bytes, SLAB_BYTES)  # of what the device has no part in

    def read(self, plan: ShardPlan) -> ShardValues:
        """Everything the plan asks of one shard."""
        file = self.source.open(plan.file)
        try:
            stamp = _checked(file, plan)
            one_pass = _Pass(self, file, plan, stamp)
            tensors = one_pass.run()
            if file.stamp() != stamp:
                raise ReadError(f"{plan.file}: changed while it was read", code="changed")
            if stamp is None:  # nothing names the version that was read: at least it still begins as it did
                self._look_again(plan)
            for used, before in one_pass.stamps.items():
                if self.source.stamp(used) != before:
                    raise ReadError(f"{used}: changed while it was read", code="changed")
        finally:
            file.close()
        return ShardValues(
            file=plan.file,
            size=plan.size,
            tensors=tensors,
            bytes_read=one_pass.bytes_read,
            sha256=one_pass.sha.hexdigest() if one_pass.sha is not None else None,
            zero_tail=one_pass.zero_tail if plan.whole else 0,
            unjudged=one_pass.unjudged,
            unjudged_code=one_pass.unjudged.code if one_pass.unjudged is not None else None,
            stamps=one_pass.stamps,
        )

    def _look_again(self, plan: ShardPlan) -> None:
        file = self.source.open(plan.file)
        try:
            _checked(file, plan)
        finally:
            file.close()


def _checked(file: File, plan: ShardPlan) -> str | None:
    return stamp_of(file, plan.file, size=plan.size, header_end=8 + plan.header_bytes, sha256=plan.header_sha256)


def stamp_of(file: File, path: str, *, size: int, header_end: int, sha256: str | None) -> str | None:
    """A shard's stamp, if it still is the file whose header was read. Raises ReadError where it is another one."""
    if file.size != size:
        told = f"was {size:,} bytes, is {file.size:,}"
        raise ReadError(f"{path}: changed since its header was read: {told}", code="changed")
    stamp = file.stamp()
    if hashlib.sha256(file.read(8, header_end)).hexdigest() != sha256:
        raise ReadError(f"{path}: changed since its header was read: its header is another one", code="changed")
    return stamp


class _Weight(NamedTuple):
    """An FP8 weight that is read beside its scales; `scales` reads those of some rows of blocks where all are many."""

    part: Part
    values: Values
    judge: Judge
    texture: CodeTexture
    bands: "list[npt.NDArray[np.uint64]]"
    scales: Callable[[int, int], Scales] | None = None

    def add(self, strip: Bytes, place: int, pending: Pending) -> None:
        """A strip of whole rows of blocks from byte `place` of the file on."""
        extremes, element = pending.result(), place - self.part.begin
        signed, unsigned, alike, most = most_of(
            extremes.signed_rc, extremes.unsigned_rc, extremes.alike_r, extremes.small
        )
        self.values.absorb(strip, signed, unsigned, extremes.zeros, element, place)
        first = self.part.block_row(element // self.part.shape[1])
        last = first + extremes.signed_rc.shape[0]
        own = None if self.scales is None else self.scales(first, last)
        self.judge.add(strip, first, extremes, own)
        own = self.judge.scales(first, last) if own is None else own
        self.texture.add(strip, place, extremes, own, alike=alike, most=most)
        if self.part.shape[1] >= CHUNK and not alike:
            self.bands.append(extremes.sums_r)
            return
        # A strip of one sign, or with many chunks that are, holds too little to be told from another.
        told = (extremes.signed_rc.max(axis=1) >= 0) & (extremes.unsigned_rc.max(axis=1) > 0x7F)
        told &= extremes.alike_r * _FEW < self.judge.block[0] * (self.part.shape[1] // CHUNK) + _FEW
        self.bands.append(np.where(told, extremes.sums_r, np.uint64(0)))


class _Looks:
    """What looks at a tensor's bytes whatever they mean. `weighed`: an FP8 weight, whose strips its kernel sums up."""

    def __init__(self, part: Part, *, weighed: bool) -> None:
        matrix, floats = len(part.shape) > 1, part.dtype in ("BF16", "F32") and part.beside is None
        scale = part.beside is not None or part.below is not None
        self.strips = Strips(part)
        self.pages = Pages(part) if matrix and not scale and not part.digested else None
        narrow = matrix and 8 <= part.row_bytes <= _WIDEST
        self.rows = Rows(part, twice=part.digested) if narrow and floats else None
        self.exponents = Exponents(part) if floats else None
        strips = None if weighed else self.strips
        self._every = [each for each in (self.pages, self.rows, self.exponents, strips) if each is not None]

    def add(self, run: Bytes, place: int) -> None:
        """A run of the tensor's bytes from byte `place` of the file on."""
        for each in self._every:
            each.add(run, place)


def _seam(values: Values, looks: _Looks, weight: _Weight | None, survey: object) -> Seam:
    """What a piece tells for the next one to be put to it."""
    head, tail = looks.pages.ends if looks.pages is not None else (b"", b"")
    return Seam(
        first=values.first,
        head=head,
        tail=tail,
        small=weight.texture.small if weight is not None else (0, 0),
        runs=weight.texture.runs if weight is not None else (),
        codes=survey.codes if isinstance(survey, CodeSurvey) else {},
    )


def _bands(weight: _Weight) -> bytes:
    """The numbers of a weight's strips: of its rows of blocks, or of several together where these are low."""
    numbers = np.concatenate(weight.bands) if weight.bands else np.zeros(0, np.uint64)
    several = STRIP_ROWS // weight.judge.block[0]
    if several > 1:
        held = [numbers[begin : begin + several] for begin in range(0, numbers.size, several)]
        numbers = np.array([xxhash.xxh3_64_intdigest(each.data) if each.all() else 0 for each in held], np.uint64)
    return numbers.astype("<u8").tobytes()


class _Pass:
    """One pass over a shard, from its first byte to its last."""

    def __init__(self, reader: ShardReader, file: File, plan: ShardPlan, stamp: str | None) -> None:
        self._reader = reader
        self._file = file
        self._plan = plan
        self.sha = hashlib.sha256() if plan.whole and reader.digests else None
        self.zero_tail = 0
        self.bytes_read = 0
        self.unjudged: Unread | None = None
        self.stamps = {plan.file: stamp}
        self._ahead = self._ranges()
        self._announced = self._taken = 0  # bytes that storage was told of, and bytes read

    def run(self) -> tuple[TensorValues, ...]:
        """Every part of the plan, in the order of the file."""
        plan, found, position, repeated = self._plan, [], self._plan.begin, 0
        own = [part.own_scale for part in plan.parts]
        self._file.expect([(at.begin, at.end) for at in own if at is not None and at.file == plan.file and at.whole])
        for part in plan.parts:
            # Bytes that no tensor claims are hashed too; those that two claim are hashed with the first.
            again = part.own_begin < position
            repeated += part.bytes if again else 0
            if again and repeated > plan.size:
                continue  # a header may name the same bytes without end; overlapping-tensors has said so
            if not again:
                self._pass_over(position, part.own_begin)
            found.append(self._part(part, again=again))
            if not again:
                position = part.own_end
        self._pass_over(position, plan.stop)
        return tuple(found)

    def _ranges(self) -> deque[tuple[int, int]]:
        """What will be read in order, where it is contiguous as one range."""
        if self.sha is not None:
            return deque([(0, self._plan.size)])
        found: deque[tuple[int, int]] = deque()
        for part in self._plan.parts:
            for first, last in part.rows or ((0, part.row_count),):
                begin, end = part.begin + first * part.row_bytes, part.begin + last * part.row_bytes
                if found and begin <= found[-1][1]:
                    found[-1] = (found[-1][0], max(end, found[-1][1]))
                else:
                    found.append((begin, end))
        return found

    def _announce(self) -> None:
        """Tell storage what will be read next: from half a window to a whole one ahead."""
        window = self._file.window
        if not self._ahead or self._announced - self._taken > window // 2:
            return
        ranges = []
        while self._ahead and self._announced - self._taken < window:
            begin, end = self._ahead.popleft()
            stop = min(end, begin + window)
            if stop < end:
                self._ahead.appendleft((stop, end))
            ranges.append((begin, stop))
            self._announced += stop - begin
        self._file.expect(ranges)

    def _weight(self, part: Part, values: Values) -> "_Weight | None":
        """A weight with its scales, which are read before it: it is judged beside them."""
        at, blocks = part.own_scale, part.blocks
        if at is None or blocks is None:
            return None
        if not at.whole and self._reads(at.of_rows(0, 1)) is not None:
            judge, texture = Judge(part, None, blocks, self._reader.device), CodeTexture(part, blocks.shape)
            return _Weight(part, values, judge, texture, [], lambda a, b: self._grid(at.of_rows(a, b)))
        scale_rc = self._reads(at)
        if scale_rc is None:
            return None
        judge = Judge(part, None if part.piece else scale_rc, blocks, self._reader.device)
        weight = _Weight(part, values, judge, CodeTexture(part, blocks.shape), [])
        if not part.piece:
            return weight
        before = part.block_row(part.rows[0][0])
        return weight._replace(scales=lambda a, b: scale_rc[a - before : b - before])

    def _reads(self, at: ScaleAt) -> Scales | None:
        """Scales; None where they are in another shard that cannot be read, which is noted."""
        try:
            return self._grid(at)
        except ReadError as error:
            if at.file == self._plan.file:
                raise
            self.unjudged = Unread(str(error), code_of(error))
            return None

    def _grid(self, at: ScaleAt) -> Scales:
        data = self._file.read(at.begin, at.end) if at.file == self._plan.file else self._elsewhere(at)
        return as_floats(data, at.dtype).reshape(at.shape)

    def _elsewhere(self, at: ScaleAt) -> bytes:
        other = self._reader.source.open(at.file)
        try:
            stamp = other.stamp()
            if self.stamps.setdefault(at.file, stamp) != stamp:
                raise ReadError(f"{at.file}: changed while it was read", code="changed")
            return other.read(at.begin, at.end)
        finally:
            other.close()

    def _pass_over(self, begin: int, end: int) -> None:
        """Hash bytes that are no tensor's, where the whole file is hashed; else they end a run of zeros unseen."""
        if self.sha is not None:
            for _ in self._runs(begin, end, self._reader.run_bytes):
                pass
        elif begin < end:
            self.zero_tail = 0

    def _part(self, part: Part, *, again: bool) -> TensorValues:
        values = Values(part.dtype, packing=part.packing)
        weight, survey = self._weight(part, values), survey_of(part)
        says_shape = part.beside is not None and part.beside.kind == "shape"
        said, table = SaidShape(part) if says_shape else None, None if part.below is None else Table(part)
        observers = [each for each in (survey, said, table) if each is not None]
        looks = _Looks(part, weighed=weight is not None)
        # Tables, and other matrices whose rows are looked at, come in whole rows.
        slab = self._reader.run_bytes
        slab = slab if table is None and looks.rows is None else max(1, slab // part.row_bytes) * part.row_bytes
        whole, digest, strips = part.piece or not part.rows, None, []
        for first, last in part.rows or ((0, part.row_count),):
            begin, end = part.begin + first * part.row_bytes, part.begin + last * part.row_bytes
            # A copy of a vocabulary matrix is judged by its digest alone, so these are made always.
            digested = self._reader.digests or not whole or part.digested
            hasher = xxhash.xxh3_128() if digested else None
            if weight is not None:
                for top, bottom in part.chunked(first, last):
                    low, high = part.begin + top * part.row_bytes, part.begin + bottom * part.row_bytes
                    self._weigh(weight, looks, low, high, hasher, again=again)
            else:
                width = max(1, (part.end - part.begin) // part.elements)  # several elements of F4 share a byte
                for run, place in self._runs(begin, end, slab, hasher, again=again):
                    element = (place - part.begin) // width
                    values.add(run, element, place)
                    for observer in observers:
                        observer.add(run, element)
                    looks.add(run, place)
            if hasher is not None and whole:
                digest = hasher.hexdigest()
            elif hasher is not None:
                strips.append(hasher.hexdigest())
        self.bytes_read += part.bytes
        return TensorValues(
            name=part.name,
            file=self._plan.file,
            dtype=part.dtype,
            shape=part.shape,
            elements=part.elements,
            read=values.read,
            nan=values.nan,
            infinite=values.infinite,
            zeros=values.zeros,
            minimum=values.minimum,
            maximum=values.maximum,
            constant=values.constant,
            e4m3=values.e4m3,
            rows=part.rows,
            xxh3=digest,
            strips=tuple(strips),
            first_nonfinite=values.first_nonfinite,
            blocks=weight.judge.result() if weight is not None else None,
            scales=survey.result() if survey is not None else None,
            format=part.format,
            role=part.role,
            packing=part.packing,
            shape_said=said.result() if said is not None else None,
            unpacked=part.beside.unpacked if said is not None and part.beside is not None else None,
            table=table.result() if table is not None else None,
            bands=looks.strips.result() if weight is None else _bands(weight),
            texture=weight.texture.result() if weight is not None else None,
            matrix=looks.rows.result() if looks.rows is not None else None,
            exponents=looks.exponents.result() if looks.exponents is not None else {},
            doubled_pages=looks.pages.doubled if looks.pages is not None else 0,
            first_doubled=looks.pages.first if looks.pages is not None else None,
            seam=_seam(values, looks, weight, survey) if part.piece else None,
        )

    def _weigh(self, weight: "_Weight", looks: "_Looks", begin: int, end: int, hasher: Any, *, again: bool) -> None:
        """Strips of whole rows of blocks, reduced on the device, then judged, in order."""
        device, columns, block = self._reader.device, weight.part.shape[1], weight.judge.block
        slab = max(1, device.slab_bytes // (block[0] * columns)) * block[0] * columns
        under_way: deque[tuple[Bytes, int, Pending]] = deque()
        for strip, place in self._runs(begin, end, slab, hasher, again=again):
            under_way.append((strip, place, device.extremes(strip, columns, block, place % PAGE)))
            looks.add(strip, place)
            if len(under_way) > device.depth:
                weight.add(*under_way.popleft())
        while under_way:
            weight.add(*under_way.popleft())

    def _look_at_end(self, run: Bytes) -> None:
        if run[-1]:
            self.zero_tail = 0
            return
        zeros = zeros_at_end(run)
        self.zero_tail = self.zero_tail + zeros if zeros == run.size else zeros

    def _runs(
        self, begin: int, end: int, slab: int, hasher: Any = None, *, again: bool = False
    ) -> Iterator[tuple[Bytes, int]]:
        """Runs of at most `slab` bytes, each with its place in the file; hashed, and gone with the next one.

        `again`: these bytes were read before.
        """
        file, reader = self._file, self._reader
        while begin < end:
            stop = min(end, begin + slab)
            if not again:
                self._announce()
                self._taken += stop - begin
            run = reader.device.buffer(stop - begin, begin)
            file.read_into(begin, run.data)
            if hasher is not None:
                hasher.update(run.data)
            if not again:
                if self.sha is not None:
                    self.sha.update(run.data)
                self._look_at_end(run)
            reader.tick(run.size)
            yield run, begin
            begin = stop
