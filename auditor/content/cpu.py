"""The CPU as a device: each thread's buffers and scratch space, and the kernels called on their addresses."""

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from auditor.content.device import PAGE, Buffer, Bytes, Extremes, address
from auditor.content.kernels.native import Entry, entry, preadv2

if TYPE_CHECKING:
    from auditor.content.blocks import Judge
    from auditor.sources import File

# What is read at once stays in the processor's cache for the kernels, and is enough that threads seldom wait for the
# interpreter's lock between two calls. All threads together have a budget.
SLAB_BYTES, LEAST_SLAB_BYTES, BUFFERS_BYTES = 4 << 20, 1 << 20, 128 << 20
_LANES = 4096  # elements folded together where a tensor has no blocks

Array = npt.NDArray[Any]
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
PREADV2 = preadv2() if _NOWAIT else 0


class _Done(NamedTuple):
    extremes: Extremes

    def result(self) -> Extremes:
        return self.extremes


class Weighed(NamedTuple):
    """What became of a weight's bytes that were read, reduced and judged together: `done` of them, of both signs.

    `smallest` and `largest` are signed magnitudes. Of the strip behind them `read` bytes are in the buffer; `reduced`
    is None where that is not all of it.
    """

    done: int
    smallest: int
    largest: int
    zeros: int
    read: int
    reduced: _Done | None


def slab_bytes(threads: int) -> int:
    """How much each of so many threads reads at once."""
    return max(LEAST_SLAB_BYTES, min(SLAB_BYTES, BUFFERS_BYTES // threads))


class CpuDevice:
    """One thread's buffers and scratch space."""

    name = "cpu"
    depth = 0

    def __init__(self, slab_bytes: int = SLAB_BYTES) -> None:
        self.slab_bytes = slab_bytes
        self._buffer = Buffer(slab_bytes)
        self._reduce = entry("reduce_strip")
        self._lanes = _Lanes(np.uint8, 0)
        self._zeros = np.zeros(1, np.int64)
        self._zeros_at = address(self._zeros)
        self._weigh = entry("weigh")
        self._vector, self._weighed = np.zeros(2, np.int64), np.zeros(7, np.int64)
        self._own = (address(self._vector), address(self._weighed))

    def buffer(self, size: int, offset: int) -> Bytes:
        """The one buffer; what it held is done with."""
        return self._buffer.at(offset, size)

    def extremes(self, strip: Bytes, columns: int, block: tuple[int, int]) -> _Done:
        """Reduce at once, while the strip is in the cache."""
        signed_rc, unsigned_rc = _grids(strip, columns, block)
        self._reduce(
            address(strip), strip.size, columns, *block, *signed_rc.shape, address(signed_rc), address(unsigned_rc),
            *self._lanes_of(columns), columns, self._zeros_at,
        )  # fmt: skip
        return _Done(Extremes(signed_rc, unsigned_rc, int(self._zeros[0])))

    def weighs(self, file: "File", slab: int) -> bool:
        """Whether `weigh` has a way to read the file, and one buffer suits all strips of so many bytes."""
        return PREADV2 != 0 and file.at_hand >= 0 and slab % PAGE == 0

    def weigh(self, file: "File", begin: int, size: int, slab: int, judge: "Judge") -> Weighed:
        """Read, reduce and judge so many bytes of a weight, strips of `slab` bytes one after the other, in one call.

        It ends before a strip that takes a second look, or that is not in memory.
        """
        columns, block = judge.columns, judge.block
        strip = self.buffer(min(slab, size), begin)
        signed_rc, unsigned_rc = _grids(strip, columns, block)
        vector, out = self._own
        self._weigh(
            PREADV2, file.at_hand, _NOWAIT, vector, address(strip), strip.size, begin, size, columns, *block,
            *signed_rc.shape, address(signed_rc), address(unsigned_rc), *self._lanes_of(columns), columns,
            *judge.given(begin), out,
        )  # fmt: skip
        done, read, reduced, zeros, negative, positive, total = self._weighed.tolist()
        rows = -(-(read // columns) // block[0])
        pending = _Done(Extremes(signed_rc[:rows], unsigned_rc[:rows], zeros)) if reduced else None
        return Weighed(done, -negative, positive, total, read, pending)

    def _lanes_of(self, columns: int) -> list[int]:
        if self._lanes.width < columns:
            self._lanes = _Lanes(np.uint8, columns)
        return self._lanes.addresses

    def close(self) -> None:
        """Nothing outlives the thread."""


class Sweeper:
    """One thread's scratch space to look at runs of codes that have no blocks, for each width in bits."""

    def __init__(self) -> None:
        self._lanes: dict[np.dtype[Any], _Lanes] = {}
        self._entries: dict[str, Entry] = {}
        self._out = np.zeros(6, np.int64)
        self._out_at = address(self._out)

    def sweep(self, codes: Array) -> tuple[int, int, int]:
        """Largest signed, largest unsigned, count of ±0; of at least one code."""
        lanes = self._lanes.get(codes.dtype)
        if lanes is None:
            lanes = self._lanes[codes.dtype] = _Lanes(codes.dtype, _LANES)
        magnitude = (1 << (8 * codes.itemsize - 1)) - 1
        signed, unsigned, zeros, *_ = self._call("sweep", codes, *lanes.addresses, _LANES, magnitude)
        return signed, unsigned, zeros

    def explain(self, codes: Array, magnitude: int, largest_finite: int, infinity: int) -> tuple[int, ...]:
        """Of codes that `sweep` cannot tell: NaN, infinities, the first of them (or -1), smallest and largest finite
        value as signed magnitudes, and whether there is a finite one.
        """
        return tuple(self._call("explain", codes, magnitude, largest_finite, infinity))

    def alike(self, codes: Array, code: int) -> bool:
        """Whether every code, of bits, is this one."""
        return bool(self._call("alike", codes, code)[0])

    def zeros_at_end(self, run: Bytes) -> int:
        """How many bytes at the end are zero."""
        if run.size and run[-1]:
            return 0
        zeros_at_end = self._entries.get("zeros_at_end")
        if zeros_at_end is None:
            zeros_at_end = self._entries["zeros_at_end"] = entry("zeros_at_end")
        zeros_at_end(address(run), run.size, self._out_at)
        return int(self._out[0])

    def _call(self, name: str, codes: Array, *given: int) -> list[int]:
        name = f"{name}_{codes.itemsize}"
        call = self._entries.get(name)
        if call is None:
            call = self._entries[name] = entry(name)
        call(address(codes), codes.size, *given, self._out_at)
        results: list[int] = self._out.tolist()
        return results


class _Lanes:
    """Scratch space of `fold`: for each column the largest as signed, as unsigned, and a count of ±0."""

    def __init__(self, dtype: Any, width: int) -> None:
        unsigned = np.dtype(dtype)
        self.width = width
        self._arrays = [np.empty(width, kind) for kind in (f"i{unsigned.itemsize}", unsigned, unsigned)]
        self.addresses = [address(each) for each in self._arrays]


def _grids(strip: Bytes, columns: int, block: tuple[int, int]) -> tuple[npt.NDArray[np.int8], Bytes]:
    """Room for the extremes of a strip's blocks."""
    grid = (-(-(strip.size // columns) // block[0]), -(-columns // block[1]))
    return np.empty(grid, np.int8), np.empty(grid, np.uint8)
