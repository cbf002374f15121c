"""What a kernel owes the readers: the extremes of each weight block's FP8 codes, alike on every device.

Shapes: R and C are a strip's rows and columns, r and c its blocks. A strip is a run of whole rows that begins
at a block's first row; its last block of rows may be partial, and so may the last block of columns.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from auditor.content.plan import PAGE

Bytes = npt.NDArray[np.uint8]


class Extremes(NamedTuple):
    """Per block the largest code as a signed byte and as an unsigned one, and how many codes of the strip are ±0.

    The largest |code| is max(signed, unsigned & 0x7F); 0x7F is NaN. A chunk is CHUNK codes of a row, from a multiple
    of CHUNK columns on. `alike_r` counts, by row of blocks, the chunks whose codes are all of one sign; `small`, by
    page of the file, the codes below SMALL, but not ±0, of the chunks that begin in it: both are 0 where a block is no
    whole number of chunks wide. `sums_r` is a sum over each row of blocks that tells other codes.
    """

    signed_rc: npt.NDArray[np.int8]
    unsigned_rc: Bytes
    zeros: int
    alike_r: npt.NDArray[np.int64]
    small: npt.NDArray[np.int32]
    sums_r: npt.NDArray[np.uint64]


class Reproduced(NamedTuple):
    """What became of some blocks code by code, alike on every device; of other blocks outcome -1.

    Per block the outcome (`roundtrip.EXACT` to `UNDEFINED`), the largest relative error, whether each code survives.
    """

    outcome_rc: npt.NDArray[np.int8]
    error_rc: npt.NDArray[np.float64]
    survives_rc: npt.NDArray[np.bool_]


# From a strip, its columns, its blocks' shape, which blocks, their scales and `roundtrip`'s way of rounding these.
Reproduce = Callable[
    [Bytes, int, tuple[int, int], npt.NDArray[np.bool_], npt.NDArray[np.float32], int],
    Reproduced,
]

_LINE = 64


def place_for(offset: int) -> int:
    """Where in memory that begins on a page bytes from `offset` of a file on are read to; less than PAGE + 2 lines.

    Where the distance between a byte's place in the page cache and in memory, modulo the page size, is 1 to
    31, recent processors copy an order of magnitude more slowly (`rep movsb` with close aliases); here it is
    64 to 127. Elements of every dtype are aligned.
    """
    return (offset % PAGE + 2 * _LINE - 1) // _LINE * _LINE


class Buffer:
    """Memory that file bytes are read into again and again, grown where more is asked for."""

    def __init__(self, size: int) -> None:
        self._memory = _pages(size)

    def at(self, offset: int, size: int) -> Bytes:
        """Room for `size` bytes of a file from `offset` on; what was there is done with."""
        begin = place_for(offset)
        if begin + size > self._memory.size:
            self._memory = _pages(size)
        return self._memory[begin : begin + size]


def _pages(size: int) -> Bytes:
    """Memory that begins on a page, with a page to spare behind `size` bytes for each offset."""
    memory = np.empty(size + 3 * PAGE, np.uint8)
    begin = -memory.ctypes.data % PAGE
    return memory[begin:]


class Pending(Protocol):
    """Extremes under way."""

    def result(self) -> Extremes:
        """Wait for them; the strip's buffer may be used again afterwards."""


class Device(Protocol):
    """One worker's share of a device; not shared between threads.

    `name` is what the report shows ('cpu', or the GPU's name), `slab_bytes` how much to read at once for it,
    `depth` how many strips may be under way together.
    """

    name: str
    slab_bytes: int
    depth: int

    def buffer(self, size: int, offset: int) -> Bytes:
        """Memory for `size` bytes read at a file's `offset`, in turn from one of `depth` + 1 buffers."""

    def extremes(self, strip: Bytes, columns: int, block: tuple[int, int], phase: int = 0) -> Pending:
        """Begin to reduce a strip of codes (flat, R × C bytes in a buffer of this device's).

        It begins `phase` bytes behind the start of a page of the file.
        """

    @property
    def reproduce(self) -> Reproduce | None:
        """What dequantises, quantises again and compares blocks here; None: whoever judges a strip does it as well."""

    def close(self) -> None:
        """Release what the device holds."""
