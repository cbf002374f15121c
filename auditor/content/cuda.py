"""The extremes of weight blocks on CUDA: a Triton kernel, and copies that overlap with reading.

Shapes: R and C are a strip's rows and columns, r and c its blocks. Only `auditor.content.gpu` and those who were
told by it that there is a device import this module: it needs torch and triton.

One reading thread is one `CudaDevice`, with streams and buffers of its own: a thread fills a pinned buffer at what
one core can copy out of the page cache, a fraction of what the bus carries, so several of them feed one GPU. Copies
run on one stream and kernels on another; each waits for the other by events on the device, never through the host.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from math import ceil
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
import torch
import triton
import triton.language as tl

from auditor.content.device import Bytes, Extremes
from auditor.content.gpu import LARGEST_BLOCK

# A copy of 16 MiB takes some 0.3 ms even on the fastest bus, far longer than it takes to start one.
SLAB_BYTES = 16 << 20
DEPTH = 2
_PAGE, _LINE = 4096, 64
_RESULT_BYTES = 6  # per block: int32 codes other than ±0, int8 and uint8 maximum
_launching = Lock()  # compiling one kernel in two threads at once is work done twice


# Results lie side by side, aligned as it happens: a kernel compiled for each alignment would be time lost.
@triton.jit(  # type: ignore[untyped-decorator]  # triton has no types
    do_not_specialize=["rows"], do_not_specialize_on_alignment=["signed_ptr", "unsigned_ptr"]
)
def _extremes(  # type: ignore[no-untyped-def]  # an annotation is an instruction to triton
    codes,
    nonzero_ptr,
    signed_ptr,
    unsigned_ptr,
    rows,
    items,
    block_rows: tl.constexpr,
    block_items: tl.constexpr,
    step: tl.constexpr,
    unroll: tl.constexpr,
    width: tl.constexpr,
    lanes: tl.constexpr,
    whole_rows: tl.constexpr,
    whole_columns: tl.constexpr,
):
    """One program reduces one block, `step` rows at a time. An item is 4 codes in an int32 (`lanes` 4), or one code.

    Of a word, its highest byte decides which is larger, so a maximum over words is one over that byte, and shifts
    bring the other three there. A word's bytes that are not ±0 are counted in four counters side by side.
    """
    block = tl.program_id(0)
    across = tl.cdiv(items, block_items)
    first_row = (block // across) * block_rows
    first_item = (block % across) * block_items
    row = tl.arange(0, step)[:, None]
    item = tl.arange(0, width)[None, :]
    begin = codes + first_row.to(tl.int64) * items + first_item
    place = begin + row.to(tl.int64) * items + item
    stride = tl.cast(step, tl.int64) * items

    signed = tl.full([step, width], -2147483648, tl.int32)
    unsigned = tl.zeros([step, width], tl.uint32)
    nonzero = tl.zeros([step, width], tl.uint32)
    for top in range(0, block_rows, step * unroll):
        for part in tl.static_range(unroll):
            done = top + part * step
            if whole_rows and whole_columns:
                loaded = tl.load(place)
            else:
                inside = row + done < block_rows
                if not whole_rows:
                    inside = inside & (first_row + row + done < rows)
                if not whole_columns:
                    inside = inside & (item < block_items) & (first_item + item < items)
                loaded = tl.load(place, mask=inside, other=0)
            if lanes == 4:
                word = loaded.to(tl.uint32, bitcast=True)
                second, third, fourth = word << 8, word << 16, word << 24
                largest = tl.maximum(tl.maximum(word, second), tl.maximum(third, fourth))
                highest = tl.maximum(
                    tl.maximum(word.to(tl.int32, bitcast=True), second.to(tl.int32, bitcast=True)),
                    tl.maximum(third.to(tl.int32, bitcast=True), fourth.to(tl.int32, bitcast=True)),
                )
            else:
                word = loaded.to(tl.uint32) << 24
                largest = word
                highest = word.to(tl.int32, bitcast=True)
            if not (whole_rows and whole_columns):
                # What lies outside reads as 0: harmless to the unsigned maximum and the count, not to the signed one.
                highest = tl.where(inside, highest, -2147483648)
            signed = tl.maximum(signed, highest)
            unsigned = tl.maximum(unsigned, largest)
            # A byte's magnitude plus 0x7F sets its high bit unless it is 0, and never carries into the next.
            nonzero += (((word & 0x7F7F7F7F) + 0x7F7F7F7F) >> 7) & 0x01010101
            place += stride
    counted = (nonzero & 0xFF) + ((nonzero >> 8) & 0xFF) + ((nonzero >> 16) & 0xFF) + (nonzero >> 24)
    tl.store(nonzero_ptr + block, tl.sum(tl.sum(counted.to(tl.int32), axis=1), axis=0))
    tl.store(signed_ptr + block, (tl.max(tl.max(signed, axis=1), axis=0) >> 24).to(tl.int8))
    tl.store(unsigned_ptr + block, (tl.max(tl.max(unsigned, axis=1), axis=0) >> 24).to(tl.uint8))


class Shape(NamedTuple):
    """A strip's rows and columns, and its blocks'."""

    rows: int
    columns: int
    block: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks, by row and column."""
        return ceil(self.rows / self.block[0]), ceil(self.columns / self.block[1])

    @property
    def results(self) -> int:
        """Bytes of what comes of it."""
        r, c = self.grid
        return r * c * _RESULT_BYTES


def reduce(codes: torch.Tensor, shape: Shape, results: torch.Tensor) -> None:
    """Start the kernel on the current stream: R × C codes from an address that 16 divides into `results` bytes."""
    lanes = 4 if shape.columns % 4 == 0 and shape.block[1] % 4 == 0 else 1
    block_rows, block_items = shape.block[0], shape.block[1] // lanes
    width = triton.next_power_of_2(block_items)
    # 128 threads load 16 bytes each at a time; a smaller block takes fewer.
    step = min(triton.next_power_of_2(block_rows), max(1, 2048 // (width * lanes)))
    # Eight loads are under way together, which is a block of 128 × 128; more would only be slow to compile.
    unroll = min(8, ceil(block_rows / step))
    r, c = shape.grid
    blocks = r * c
    with _launching:
        _extremes[(blocks,)](
            codes.view(torch.int32) if lanes == 4 else codes,
            results[: 4 * blocks].view(torch.int32),
            results[4 * blocks : 5 * blocks].view(torch.int8),
            results[5 * blocks : 6 * blocks],
            shape.rows,
            shape.columns // lanes,
            block_rows,
            block_items,
            step,
            unroll,
            width,
            lanes,
            block_rows % (step * unroll) == 0 and shape.rows % block_rows == 0,
            width == block_items and shape.columns % shape.block[1] == 0,
            num_warps=max(1, min(4, step * width * lanes // 512)),
        )


def told(results: Bytes, shape: Shape) -> Extremes:
    """The extremes in `results`, as values of their own."""
    r, c = shape.grid
    blocks = r * c
    nonzero, signed, unsigned = np.split(results[: 6 * blocks], [4 * blocks, 5 * blocks])
    return Extremes(
        signed.view(np.int8).reshape(r, c).copy(),
        unsigned.reshape(r, c).copy(),
        shape.rows * shape.columns - int(nonzero.view(np.int32).sum(dtype=np.int64)),
    )


class Mark(Protocol):
    """A point in a stream of work."""

    def synchronize(self) -> None:
        """Wait until the work before it is done."""


class Place(Protocol):
    """Where a kernel runs: its memory, and two streams of work, for copies to it and for everything else."""

    name: str

    def host(self, size: int) -> torch.Tensor:
        """Bytes of the host's that can be copied from while the host goes on."""

    def room(self, size: int) -> torch.Tensor:
        """Bytes of the device's."""

    def copying(self, after: Mark | None) -> AbstractContextManager[None]:
        """Put copies begun within on their stream, behind a mark of the other's."""

    def computing(self, after: Mark) -> AbstractContextManager[None]:
        """Put work begun within on its stream, behind a mark of the copies'."""

    def mark(self) -> Mark:
        """The point that the current stream has reached."""

    def close(self) -> None:
        """Wait for everything, and give device memory that nobody uses back."""


class Cuda:
    """A CUDA device as a place."""

    def __init__(self, index: int) -> None:
        self._device = torch.device("cuda", index)
        self.name = torch.cuda.get_device_name(index)
        self._copies = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch
        self._work = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch

    def host(self, size: int) -> torch.Tensor:
        """Pinned memory."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def room(self, size: int) -> torch.Tensor:
        """Device memory, which torch's allocator ties to the stream of copies."""
        with torch.cuda.stream(self._copies):
            return torch.empty(size, dtype=torch.uint8, device=self._device)

    @contextmanager
    def copying(self, after: Mark | None) -> Iterator[None]:
        """The stream of copies."""
        with torch.cuda.stream(self._copies):
            if after is not None:
                self._copies.wait_event(after)  # type: ignore[arg-type]  # one of mark()'s
            yield

    @contextmanager
    def computing(self, after: Mark) -> Iterator[None]:
        """The stream of kernels, and of their results back to the host."""
        with torch.cuda.stream(self._work):
            self._work.wait_event(after)  # type: ignore[arg-type]  # one of mark()'s
            yield

    def mark(self) -> Mark:
        """An event; a host that waits for it sleeps, as another thread may want the core for a digest."""
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch
        event.record()
        return event

    def close(self) -> None:
        """Drain both streams and empty torch's cache of device memory; pinned memory it keeps for the next one."""
        self._copies.synchronize()
        self._work.synchronize()
        torch.cuda.empty_cache()


class _Passed:
    """A point that work has passed as soon as it is begun."""

    def synchronize(self) -> None:
        """Nothing to wait for."""


class Host:
    """The host as a place, where Triton's interpreter runs the kernel: one memory, everything done when begun."""

    name = "triton interpreter"

    def host(self, size: int) -> torch.Tensor:
        """Plain memory."""
        return torch.empty(size, dtype=torch.uint8)

    def room(self, size: int) -> torch.Tensor:
        """Plain memory."""
        return torch.empty(size, dtype=torch.uint8)

    def copying(self, after: Mark | None) -> AbstractContextManager[None]:  # noqa: ARG002  # a place's signature
        """No stream."""
        return nullcontext()

    def computing(self, after: Mark) -> AbstractContextManager[None]:  # noqa: ARG002  # a place's signature
        """No stream."""
        return nullcontext()

    def mark(self) -> Mark:
        """A point that is passed already."""
        return _Passed()

    def close(self) -> None:
        """Nothing to give back."""


@dataclass
class _Buffer:
    """One of the buffers that are read into; `copied` is when the device has what was last taken from it."""

    memory: torch.Tensor
    bytes: Bytes
    copied: Mark | None = None

    def offset(self, strip: Bytes) -> int | None:
        """Where in it a strip begins, None where it lies elsewhere."""
        begin = strip.ctypes.data - self.memory.data_ptr()
        return begin if begin >= 0 and begin + strip.size <= self.memory.numel() else None


@dataclass
class _Slot:
    """The device's memory for one strip under way; `free` is when its last strip's results had left it."""

    codes: torch.Tensor
    results: torch.Tensor
    free: Mark | None = None


class CudaDevice:
    """A `Device` on CUDA; `index` is one of the GPUs by number. Raises torch's errors where memory is short.

    It holds `depth` + 1 pinned buffers and `depth` strips of device memory, each of `slab_bytes` unless more is
    asked for at once. Any number of strips may be under way: the device keeps them in order.
    """

    def __init__(
        self, index: int = 0, *, place: Place | None = None, slab_bytes: int = SLAB_BYTES, depth: int = DEPTH
    ) -> None:
        self._place = Cuda(index) if place is None else place
        self.name = self._place.name
        self.slab_bytes = slab_bytes
        self.depth = depth
        self._buffers = [self._buffer(slab_bytes) for _ in range(depth + 1)]
        self._slots = [_Slot(self._place.room(slab_bytes), self._place.room(0)) for _ in range(depth)]
        self._answers: list[torch.Tensor] = []
        self._filled = 0
        self._begun = 0

    def buffer(self, size: int, offset: int = 0) -> Bytes:
        """The next of the pinned buffers, once the device has what was taken from it; grown where it is too small.

        For bytes at a file's `offset` it begins where a processor copies them from the page cache at full speed.
        """
        position = self._filled % len(self._buffers)
        self._filled += 1
        buffer = self._buffers[position]
        if buffer.copied is not None:
            buffer.copied.synchronize()
        begin = (offset % _PAGE + 2 * _LINE - 1) // _LINE * _LINE
        if buffer.memory.numel() < begin + size:
            buffer = self._buffers[position] = self._buffer(size)
        return buffer.bytes[begin : begin + size]

    def extremes(self, strip: Bytes, columns: int, block: tuple[int, int]) -> "_Pending":
        """Copy a strip to the device and begin to reduce it. Raises ValueError where it is not R × C or too coarse."""
        shape = _shape(strip, columns, block)
        if not shape.results:
            return _Pending(self, shape)
        buffer, source = self._source(strip)
        slot = self._slot(strip.size, shape.results)
        answer = self._answer(shape.results)
        codes, results = slot.codes[: strip.size], slot.results[: shape.results]
        with self._place.copying(slot.free):
            codes.copy_(source, non_blocking=True)
            copied = self._place.mark()
        if buffer is not None:
            buffer.copied = copied
        with self._place.computing(copied):
            reduce(codes, shape, results)
            answer[: shape.results].copy_(results, non_blocking=True)
            slot.free = self._place.mark()
        return _Pending(self, shape, answer, slot.free)

    def close(self) -> None:
        """Wait for what is under way, and release buffers and device memory."""
        for mark in (*(buffer.copied for buffer in self._buffers), *(slot.free for slot in self._slots)):
            if mark is not None:
                mark.synchronize()
        self._buffers.clear()
        self._slots.clear()
        self._answers.clear()
        self._place.close()

    def take_back(self, answer: torch.Tensor) -> None:
        """Keep a result's memory for a later one."""
        self._answers.append(answer)

    def _buffer(self, size: int) -> _Buffer:
        memory = self._place.host(size + 2 * _PAGE)
        return _Buffer(memory, memory.numpy())

    def _source(self, strip: Bytes) -> tuple[_Buffer | None, torch.Tensor]:
        for buffer in self._buffers:
            begin = buffer.offset(strip)
            if begin is not None:
                return buffer, buffer.memory[begin : begin + strip.size]
        # Not pinned: CUDA stages it through memory of its own, which is slower and as right.
        return None, torch.from_numpy(strip)

    def _slot(self, size: int, results: int) -> _Slot:
        position = self._begun % len(self._slots)
        self._begun += 1
        slot = self._slots[position]
        if slot.codes.numel() < size or slot.results.numel() < results:
            if slot.free is not None:
                slot.free.synchronize()
            rooms = (max(size, slot.codes.numel()), max(results, slot.results.numel()))
            # The old memory goes first: one strip's worth is the most that a slot ever holds.
            slot = self._slots[position] = _Slot(self._place.room(0), self._place.room(0))
            slot.codes, slot.results = self._place.room(rooms[0]), self._place.room(rooms[1])
        return slot

    def _answer(self, size: int) -> torch.Tensor:
        if self._answers and self._answers[-1].numel() >= size:
            return self._answers.pop()
        self._answers.clear()  # all of a strip that was smaller
        return self._place.host(max(size, self.slab_bytes * _RESULT_BYTES // (128 * 128)))


@dataclass
class _Pending:
    """Extremes on their way back from a device."""

    device: CudaDevice
    shape: Shape
    answer: torch.Tensor | None = None
    done: Mark | None = None
    extremes: Extremes | None = field(default=None, repr=False)

    def result(self) -> Extremes:
        """Wait for them."""
        if self.extremes is None:
            r, c = self.shape.grid
            if self.answer is None or self.done is None:
                return Extremes(np.zeros((r, c), np.int8), np.zeros((r, c), np.uint8), 0)
            self.done.synchronize()
            self.extremes = told(self.answer.numpy(), self.shape)
            self.device.take_back(self.answer)
            self.answer = None
        return self.extremes


def _shape(strip: Bytes, columns: int, block: tuple[int, int]) -> Shape:
    if not all(0 < side <= LARGEST_BLOCK for side in block):
        raise ValueError(f"weight block {block[0]} × {block[1]}: a side must be 1 to {LARGEST_BLOCK}")
    if strip.ndim != 1 or columns < 0 or (strip.size % columns if columns else strip.size):
        raise ValueError(f"{strip.size:,} codes are no whole rows of {columns:,} columns")
    return Shape(strip.size // columns if columns else 0, columns, block)


def prove(index: int = 0) -> None:
    """Compare the kernel on a device with numpy on bytes of every kind. Raises RuntimeError where they differ."""
    block, columns = (128, 128), 576
    codes = np.random.default_rng(0).integers(0, 256, (200, columns), np.uint8)
    codes[:128, :128], codes[:128, 128:256], codes[:128, 256:384] = 0, 0xFF, np.arange(128, dtype=np.uint8)
    device = CudaDevice(index, slab_bytes=codes.size)
    try:
        memory = device.buffer(codes.size)[: codes.size]
        memory[:] = codes.ravel()
        seen = device.extremes(memory, columns, block).result()
    finally:
        device.close()
    pieces = [np.split(rows, range(128, columns, 128), axis=1) for rows in np.split(codes, [128])]
    signed = np.array([[piece.view(np.int8).max() for piece in row] for row in pieces])
    unsigned = np.array([[piece.max() for piece in row] for row in pieces])
    zeros = int(np.count_nonzero((codes & 0x7F) == 0))
    if (
        not (np.array_equal(seen.signed_rc, signed) and np.array_equal(seen.unsigned_rc, unsigned))
        or seen.zeros != zeros
    ):
        raise RuntimeError("the kernel and numpy disagree on the same bytes")
