"""CUDA as a device: a reading thread's pinned buffers, its strips under way, and their results on the way back.

Shapes: R and C are a strip's rows and columns, r and c its blocks.

One reading thread is one `CudaDevice`, with streams and buffers of its own: a thread fills a pinned buffer at what
one core can copy out of the page cache, a fraction of what the bus carries, so several of them feed one GPU. Copies
run on one stream and kernels on another; each waits for the other by events on the device, never through the host.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from auditor.content.cuda import LARGEST_BLOCK
from auditor.content.cuda.kernel import COUNT_BYTES, RESULT_BYTES, Shape, extremes_of, reduce
from auditor.content.cuda.place import Cuda, Mark, Place
from auditor.content.cuda.reproduce import reproduce
from auditor.content.device import Bytes, Extremes, Reproduced, place_for
from auditor.content.kernels.strips import sum_strip
from auditor.content.plan import PAGE

# A copy of 16 MiB takes some 0.3 ms even on the fastest bus, far longer than it takes to start one.
SLAB_BYTES = 16 << 20
DEPTH = 2


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
        begin = place_for(offset)
        if buffer.memory.numel() < begin + size:
            buffer = self._buffers[position] = self._buffer(size)
        return buffer.bytes[begin : begin + size]

    def extremes(self, strip: Bytes, columns: int, block: tuple[int, int], phase: int = 0) -> "_Pending":
        """Copy a strip to the device and begin to reduce it. Raises ValueError where it is not R × C or too coarse."""
        shape = _shape(strip, columns, block, phase)
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
        # Sums are made here, where the bytes are too, while the device is at work.
        return _Pending(self, shape, answer, slot.free, sum_strip(strip, columns, block[0]))

    def reproduce(
        self,
        strip: Bytes,
        columns: int,
        block: tuple[int, int],
        where_rc: npt.NDArray[np.bool_],
        scale_rc: npt.NDArray[np.float32],
        rounding: int,
    ) -> Reproduced:
        """The round trip of some of a strip's blocks, of which the codes are copied once more."""
        return reproduce(strip, columns, block, where_rc, scale_rc, rounding, device=self._place.device)

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
        memory = self._place.host(size + 2 * PAGE)
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
        return self._place.host(
            max(size, self.slab_bytes * RESULT_BYTES // (128 * 128) + self.slab_bytes * COUNT_BYTES // PAGE)
        )


@dataclass
class _Pending:
    """Extremes on their way back from a device."""

    device: CudaDevice
    shape: Shape
    answer: torch.Tensor | None = None
    done: Mark | None = None
    sums_r: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64), repr=False)
    extremes: Extremes | None = field(default=None, repr=False)

    def result(self) -> Extremes:
        """Wait for them."""
        if self.extremes is None:
            r, c = self.shape.grid
            if self.answer is None or self.done is None:
                none = np.zeros((r, c), np.int8), np.zeros((r, c), np.uint8)
                return Extremes(*none, 0, np.zeros(r, np.int64), np.zeros(0, np.int32), self.sums_r)
            self.done.synchronize()
            self.extremes = extremes_of(self.answer.numpy(), self.shape, self.sums_r)
            self.device.take_back(self.answer)
            self.answer = None
        return self.extremes


def _shape(strip: Bytes, columns: int, block: tuple[int, int], phase: int) -> Shape:
    if not all(0 < side <= LARGEST_BLOCK for side in block):
        raise ValueError(f"weight block {block[0]} × {block[1]}: a side must be 1 to {LARGEST_BLOCK}")
    if strip.ndim != 1 or columns < 0 or (strip.size % columns if columns else strip.size):
        raise ValueError(f"{strip.size:,} codes are no whole rows of {columns:,} columns")
    return Shape(strip.size // columns if columns else 0, columns, block, phase)
