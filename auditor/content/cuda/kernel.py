"""The kernel: one Triton program for each weight block, how it is launched, and what its results mean.

Shapes: R and C are a strip's rows and columns, r and c its blocks.
"""

from math import ceil
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from auditor.content.device import Bytes, Extremes
from auditor.content.kernels.strips import CHUNK
from auditor.content.plan import PAGE

RESULT_BYTES = 10  # per block: int32 codes other than ±0, int32 chunks alike, int8 and uint8 maximum
COUNT_BYTES = 4  # per page: int32 small codes
_launching = Lock()  # compiling one kernel in two threads at once is work done twice


# Results lie side by side, aligned as it happens: a kernel compiled for each alignment would be time lost.
@triton.jit(  # type: ignore[untyped-decorator]  # triton has no types
    do_not_specialize=["rows", "phase"], do_not_specialize_on_alignment=["signed_ptr", "unsigned_ptr"]
)
def _extremes(  # type: ignore[no-untyped-def]  # an annotation is an instruction to triton
    codes,
    small_ptr,
    nonzero_ptr,
    alike_ptr,
    signed_ptr,
    unsigned_ptr,
    rows,
    items,
    phase,
    block_rows: tl.constexpr,
    block_items: tl.constexpr,
    step: tl.constexpr,
    unroll: tl.constexpr,
    width: tl.constexpr,
    lanes: tl.constexpr,
    whole_rows: tl.constexpr,
    whole_columns: tl.constexpr,
    chunk: tl.constexpr,
):
    """One program reduces one block, `step` rows at a time. An item is 4 codes in an int32 (`lanes` 4), or one code.

    Of a word, its highest byte decides which is larger, so a maximum over words is one over that byte, and shifts
    bring the other three there. A word's bytes that are not ±0 are counted in four counters side by side. `chunk` is
    how many items a chunk has, 0 where chunks are not looked at.
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
    alike = tl.zeros([step, width // chunk if chunk else 1], tl.int32)
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
            filled = (((word & 0x7F7F7F7F) + 0x7F7F7F7F) >> 7) & 0x01010101
            nonzero += filled
            if chunk:
                # How many of a word are negative, not ±0 and not small, side by side, and their sums over a chunk.
                negative = ((((word >> 7) & 0x01010101) * 0x01010101) >> 24) & 0xFF
                filled = ((filled * 0x01010101) >> 24) & 0xFF
                larger = (((((word & 0x7F7F7F7F) + 0x60606060) >> 7) & 0x01010101) * 0x01010101) >> 24
                counts = (negative | (filled << 8) | ((larger & 0xFF) << 16)).to(tl.int32)
                counts = tl.sum(tl.reshape(counts, [step, width // chunk, chunk]), axis=2)
                chunk_item = tl.arange(0, width // chunk)[None, :] * chunk
                chunk_row = first_row + row + done
                there = (chunk_item + chunk <= block_items) & (first_item + chunk_item + chunk <= items)
                there = there & (row + done < block_rows) & (chunk_row < rows)
                negatives, few = counts & 0xFF, ((counts >> 8) & 0xFF) - (counts >> 16)
                alike += tl.where(there & ((negatives == 0) | (negatives == 64)), 1, 0)
                at = (chunk_row.to(tl.int64) * items + first_item + chunk_item) * lanes + phase
                tl.atomic_add(small_ptr + (at >> 12), few, mask=there & (few > 0), sem="relaxed")
            place += stride
    counted = (nonzero & 0xFF) + ((nonzero >> 8) & 0xFF) + ((nonzero >> 16) & 0xFF) + (nonzero >> 24)
    tl.store(alike_ptr + block, tl.sum(tl.sum(alike, axis=1), axis=0))
    tl.store(nonzero_ptr + block, tl.sum(tl.sum(counted.to(tl.int32), axis=1), axis=0))
    tl.store(signed_ptr + block, (tl.max(tl.max(signed, axis=1), axis=0) >> 24).to(tl.int8))
    tl.store(unsigned_ptr + block, (tl.max(tl.max(unsigned, axis=1), axis=0) >> 24).to(tl.uint8))


class Shape(NamedTuple):
    """A strip's rows and columns, and its blocks'."""

    rows: int
    columns: int
    block: tuple[int, int]
    phase: int = 0

    @property
    def pages(self) -> int:
        """Pages of the file that it reaches over."""
        return ceil((self.phase + self.rows * self.columns) / PAGE)

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks, by row and column."""
        return ceil(self.rows / self.block[0]), ceil(self.columns / self.block[1])

    @property
    def results(self) -> int:
        """Bytes of what comes of it."""
        r, c = self.grid
        return r * c * RESULT_BYTES + self.pages * COUNT_BYTES if r * c else 0


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
    counts = results[: COUNT_BYTES * shape.pages].view(torch.int32)
    counts.zero_()
    results = results[COUNT_BYTES * shape.pages :]
    with _launching:
        _extremes[(blocks,)](
            codes.view(torch.int32) if lanes == 4 else codes,
            counts,
            results[: 4 * blocks].view(torch.int32),
            results[4 * blocks : 8 * blocks].view(torch.int32),
            results[8 * blocks : 9 * blocks].view(torch.int8),
            results[9 * blocks : 10 * blocks],
            shape.rows,
            shape.columns // lanes,
            shape.phase,
            block_rows,
            block_items,
            step,
            unroll,
            width,
            lanes,
            block_rows % (step * unroll) == 0 and shape.rows % block_rows == 0,
            width == block_items and shape.columns % shape.block[1] == 0,
            0 if shape.block[1] % CHUNK else CHUNK // lanes,
            num_warps=max(1, min(4, step * width * lanes // 512)),
        )


def extremes_of(results: Bytes, shape: Shape, sums_r: npt.NDArray[np.uint64]) -> Extremes:
    """The extremes in `results`, as values of their own."""
    r, c = shape.grid
    blocks, begin = r * c, COUNT_BYTES * shape.pages
    small = results[:begin].view(np.int32).copy()
    nonzero, alike, signed, unsigned = np.split(
        results[begin : begin + 10 * blocks], [4 * blocks, 8 * blocks, 9 * blocks]
    )
    return Extremes(
        signed.view(np.int8).reshape(r, c).copy(),
        unsigned.reshape(r, c).copy(),
        shape.rows * shape.columns - int(nonzero.view(np.int32).sum(dtype=np.int64)),
        alike.view(np.int32).reshape(r, c).sum(axis=1, dtype=np.int64),
        small,
        sums_r,
    )
