"""What is looked at again where counts are odd, and rows and pages of tensors, for numba to compile."""

from typing import Any

import numpy as np
from numba import types

from auditor.content.kernels.compiled import compiled, kernel

PAGE = 4096
# Where runs of zeros and of one sign stand: how long the present one and the longest are, in chunks, and in which chunk
# the present one began.
ZEROS, ONE_SIGN = range(2)
PRESENT, LONGEST, BEGAN = range(3)
# How long the run is that all began with, and whether it has ended.
LEADING, BROKEN = range(3, 5)
_CHUNK = 64
_MIX = 0x9E3779B97F4A7C15


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


@compiled
def _mixed(row: Any) -> Any:
    """64 bits of a row's bytes, 0 where these are all 0."""
    lanes = np.zeros(4, np.uint64)
    whole = row.size - row.size % 32
    words = row[:whole].view(np.uint64)
    some = np.uint64(0)
    for k in range(0, words.size, 4):
        for lane in range(4):
            word = words[k + lane]
            some |= word
            mixed = (lanes[lane] ^ word) * np.uint64(_MIX)
            lanes[lane] = mixed ^ (mixed >> np.uint64(29))
    mixed = np.uint64(row.size)
    for k in range(whole, row.size):
        some |= np.uint64(row[k])
        mixed = (mixed ^ np.uint64(row[k])) * np.uint64(_MIX)
    if some == 0:
        return np.uint64(0)
    for lane in range(4):
        mixed = (mixed ^ lanes[lane]) * np.uint64(_MIX)
        mixed ^= mixed >> np.uint64(32)
    return max(mixed, np.uint64(1))


@kernel((types.uint8[::1], types.int64))
def mix_rows(run: Any, row_bytes: int) -> Any:
    """A number for each row of a run, alike where rows are, 0 for a row of zeros."""
    found = np.empty(run.size // row_bytes, np.uint64)
    for row in range(found.size):
        found[row] = _mixed(run[row * row_bytes : (row + 1) * row_bytes])
    return found


@kernel(*((code[::1], types.int64, types.int64[::1]) for code in (types.uint16, types.uint32)))
def count_exponents(codes: Any, shift: int, counts: Any) -> None:
    """Add to `counts` how often each biased exponent of 8 bits occurs, in four tables as the same may follow itself."""
    tables = np.zeros((4, 256), np.int64)
    whole = codes.size - codes.size % 4
    for k in range(0, whole, 4):
        tables[0, (codes[k] >> shift) & 255] += 1
        tables[1, (codes[k + 1] >> shift) & 255] += 1
        tables[2, (codes[k + 2] >> shift) & 255] += 1
        tables[3, (codes[k + 3] >> shift) & 255] += 1
    for k in range(whole, codes.size):
        tables[0, (codes[k] >> shift) & 255] += 1
    for exponent in range(256):
        counts[exponent] += tables[0, exponent] + tables[1, exponent] + tables[2, exponent] + tables[3, exponent]
