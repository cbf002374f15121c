"""What is looked at again where counts are odd, and rows and pages of tensors, for numba to compile."""

from typing import Any

import numpy as np
from numba import types

from auditor.content.kernels.compiled import kernel

PAGE = 4096
# Where runs of zeros and of one sign stand: how long the present one and the longest are, in chunks, and in which chunk
# the present one began.
ZEROS, ONE_SIGN = range(2)
PRESENT, LONGEST, BEGAN = range(3)
# How long the run is that all began with, and whether it has ended.
LEADING, BROKEN = range(3, 5)
_CHUNK = 64


@kernel(
    (types.uint8[::1], types.int64, types.int64, types.int64, types.boolean[:, ::1], types.int64, types.int64[:, ::1])
)
def find_runs(
    strip: Any, columns: int, block_rows: int, block_columns: int, counted_rc: Any, first: int, runs: Any
) -> None:
    """Follow the runs of chunks of one sign, and of zeros of one sign, through a strip that begins with code `first`.

    Only blocks that are `counted_rc` count; `runs` are how long these are, for the next strip to go on with.
    """
    rows = strip.size // columns
    for row in range(rows):
        for left in range(0, columns - _CHUNK + 1, _CHUNK):
            begin = row * columns + left
            size, negative = 0, 0
            counted = counted_rc[row // block_rows, left // block_columns]
            if counted:
                for k in range(begin, begin + _CHUNK):
                    size |= strip[k] & 127
                    negative += strip[k] >> 7
            one_sign = counted and negative in (0, _CHUNK)
            for kind in range(2):
                if not one_sign or (size == 0) != (kind == ZEROS):
                    runs[kind, PRESENT] = 0
                    runs[kind, BROKEN] = 1
                    continue
                runs[kind, PRESENT] += 1
                runs[kind, LEADING] += 1 - runs[kind, BROKEN]
                if runs[kind, PRESENT] > runs[kind, LONGEST]:
                    runs[kind, LONGEST] = runs[kind, PRESENT]
                    # Where columns are left over behind the last chunk of a row, a run is longer than its chunks.
                    runs[kind, BEGAN] = first + begin - (runs[kind, PRESENT] - 1) * _CHUNK


@kernel((types.uint8[::1], types.int64, types.int64))
def find_doubled(run: Any, first: int, last: int) -> Any:
    """How many pages of a run are the page before, and where the first of them begins (or -1).

    Pages before begin at `first`, `first` + 4,096 and so on, below `last`. Pages of one byte throughout are left out.
    """
    count, where = 0, -1
    begin = first
    while begin < last and begin + 2 * PAGE <= run.size:
        k = 0
        while k < PAGE and run[begin + k] == run[begin + PAGE + k]:
            k += 1
        if k == PAGE:
            k = 1
            while k < PAGE and run[begin + k] == run[begin]:
                k += 1
            if k < PAGE:
                count += 1
                if where < 0:
                    where = begin + PAGE
        begin += PAGE
    return count, where


@kernel((types.uint8[::1], types.int64))
def count_zero_rows(run: Any, row_bytes: int) -> int:
    """How many rows of a run are zeros throughout."""
    count = 0
    for begin in range(0, run.size - row_bytes + 1, row_bytes):
        k = begin
        while k < begin + row_bytes and run[k] == 0:
            k += 1
        count += k == begin + row_bytes
    return count


@kernel((types.int8[:, ::1], types.uint8[:, ::1], types.int64[::1], types.int32[::1]))
def most_of(signed_rc: Any, unsigned_rc: Any, alike_r: Any, small: Any) -> Any:
    """Of a strip's blocks, rows of blocks and pages: the largest codes, how many chunks are alike, the most small ones.

    Of nothing these are -128, 0, 0 and 0.
    """
    signed: Any = np.int64(-128)
    unsigned: Any = np.int64(0)
    alike: Any = np.int64(0)
    most: Any = np.int64(0)
    for r in range(signed_rc.shape[0]):
        for c in range(signed_rc.shape[1]):
            signed = max(signed, np.int64(signed_rc[r, c]))
            unsigned = max(unsigned, np.int64(unsigned_rc[r, c]))
    for r in range(alike_r.size):
        alike += alike_r[r]
    for page in range(small.size):
        most = max(most, np.int64(small[page]))
    return signed, unsigned, alike, most


@kernel(
    *(
        (code[::1], types.int64, types.int64, types.int64, types.int64, types.int64[::1])
        for code in (types.uint16, types.uint32)
    )
)
def count_exponents(codes: Any, first: int, size: int, step: int, shift: int, counts: Any) -> None:
    """Add to `counts` how often each biased exponent of 8 bits occurs, of `size` codes in each `step` from `first` on.

    In four tables, as the same may follow itself.
    """
    tables = np.zeros((4, 256), np.int64)
    for begin in range(first, codes.size, step):
        start, end = max(begin, 0), min(begin + size, codes.size)
        whole = end - max(0, end - start) % 4
        for k in range(start, whole, 4):
            tables[0, (codes[k] >> shift) & 255] += 1
            tables[1, (codes[k + 1] >> shift) & 255] += 1
            tables[2, (codes[k + 2] >> shift) & 255] += 1
            tables[3, (codes[k + 3] >> shift) & 255] += 1
        for k in range(whole, end):
            tables[0, (codes[k] >> shift) & 255] += 1
    for exponent in range(256):
        counts[exponent] += tables[0, exponent] + tables[1, exponent] + tables[2, exponent] + tables[3, exponent]
