"""The CPU's kernels against plain numpy, for every shape that edges and odd blocks can make."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from auditor.content.cpu import CpuDevice
from auditor.content.kernels.looks import count_zero_rows, most_of
from auditor.content.kernels.reduce import zeros_at_end
from auditor.content.kernels.strips import sum_rows, sum_strip


def plain_extremes(codes: np.ndarray, block: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int]:
    rows, columns = codes.shape
    grid = (-(-rows // block[0]), -(-columns // block[1]))
    signed, unsigned = np.empty(grid, np.int8), np.empty(grid, np.uint8)
    for r in range(grid[0]):
        for c in range(grid[1]):
            part = codes[r * block[0] : (r + 1) * block[0], c * block[1] : (c + 1) * block[1]]
            signed[r, c], unsigned[r, c] = part.view(np.int8).max(), part.max()
    return signed, unsigned, int(np.count_nonzero((codes & 0x7F) == 0))


def plain_texture(codes: np.ndarray, block: tuple[int, int], phase: int) -> tuple[np.ndarray, np.ndarray]:
    """Chunks of one sign or of zeros by row of blocks, and small codes by page."""
    rows, columns = codes.shape
    alike = np.zeros(-(-rows // block[0]), np.int64)
    small = np.zeros(-(-(phase + codes.size) // 4096), np.int32)
    for row in range(rows):
        for column in range(0, columns - 63, 64) if block[1] % 64 == 0 else ():
            chunk = codes[row, column : column + 64]
            negative, size = chunk > 0x7F, chunk & 0x7F
            alike[row // block[0]] += negative.all() or not negative.any()
            small[(phase + row * columns + column) // 4096] += ((size < 0x20) & (size > 0)).sum()
    return alike, small


@settings(deadline=None, max_examples=150)
@given(
    rows=st.integers(1, 700),
    columns=st.integers(1, 300),
    block=st.sampled_from([(128, 128), (64, 32), (1, 128), (300, 7), (128, 1000)]),
    kind=st.sampled_from(["any", "zero", "positive", "negative", "nan"]),
    phase=st.sampled_from([0, 64, 4032, 1000]),
    seed=st.integers(0, 1 << 32),
)
def test_extremes_of_blocks_are_what_numpy_finds(rows, columns, block, kind, phase, seed) -> None:
    random = np.random.default_rng(seed)
    low, high = {"any": (0, 256), "zero": (0, 1), "positive": (0, 128), "negative": (128, 256), "nan": (126, 128)}[kind]
    codes = random.integers(low, high, (rows, columns), dtype=np.uint8)
    device = CpuDevice()
    found = device.extremes(codes.reshape(-1), columns, block, phase).result()
    signed, unsigned, zeros = plain_extremes(codes, block)
    alike, small = plain_texture(codes, block, phase)
    assert found.alike_r.tolist() == alike.tolist()
    assert found.small.tolist() == small.tolist()
    assert found.sums_r.tolist() == sum_strip(codes.reshape(-1), columns, block[0]).tolist()
    assert (found.signed_rc == signed).all()
    assert (found.unsigned_rc == unsigned).all()
    assert found.zeros == zeros


def test_a_device_serves_narrow_and_wide_strips_in_turn() -> None:
    device = CpuDevice()
    random = np.random.default_rng(0)
    for columns in (7, 20_000, 1, 4096):
        codes = random.integers(0, 256, (130, columns), dtype=np.uint8)
        found = device.extremes(codes.reshape(-1), columns, (128, 128)).result()
        assert (found.unsigned_rc == plain_extremes(codes, (128, 128))[1]).all()


@pytest.mark.parametrize("begin", [b"", b"a", b"\0b", b"\0c\0", b"d" * 5000])
@pytest.mark.parametrize("zeros", [0, 1, 2, 4095, 4096, 4097, 8192, 10_000])
def test_zeros_at_the_end_are_counted_from_the_end(begin: bytes, zeros: int) -> None:
    data = begin + bytes(zeros)
    assert zeros_at_end(np.frombuffer(bytearray(data), np.uint8)) == len(data) - len(data.rstrip(b"\0"))


def test_the_sum_of_a_strip_tells_any_other_strip() -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 256, (128, 512), dtype=np.uint8)
    others = [codes]
    for change in ("bit", "rows", "columns", "halves"):
        other = codes.copy()
        if change == "bit":
            other[77, 300] ^= 1
        elif change == "rows":
            other[[3, 4]] = other[[4, 3]]
        elif change == "columns":
            other = np.roll(other, 1, axis=1)
        else:
            other = np.roll(other, 256, axis=1)
        others.append(other)
    assert len({int(sum_strip(each.reshape(-1), 512, 128)[0]) for each in others}) == len(others)
    assert sum_strip(codes.copy().reshape(-1), 512, 128)[0] == sum_strip(codes.reshape(-1), 512, 128)[0]


@given(
    arrays(np.int8, (2, 3)),
    arrays(np.uint8, (2, 3)),
    arrays(np.int64, 2, elements=st.integers(0, 1000)),
    arrays(np.int32, st.integers(0, 5), elements=st.integers(0, 4096)),
)
def test_the_most_of_a_strip_is_what_numpy_finds(signed_rc, unsigned_rc, alike_r, small):
    found = most_of(signed_rc, unsigned_rc, alike_r, small)
    assert found == (signed_rc.max(), unsigned_rc.max(), alike_r.sum(), small.max(initial=0))


@pytest.mark.parametrize("row_bytes", [8, 14, 64, 100, 7168])
def test_rows_share_a_number_where_they_hold_the_same_and_rows_of_zeros_have_none(row_bytes):
    rows = np.random.default_rng(0).integers(0, 256, (40, row_bytes), np.uint8)
    rows[8], rows[9], rows[11] = rows[3], 0, 0
    rows[12], rows[12, -1] = rows[3], rows[3, -1] ^ 1
    sums = sum_rows(rows.reshape(-1), row_bytes)
    assert np.flatnonzero(sums == 0).tolist() == [9, 11]
    assert np.flatnonzero(sums == sums[3]).tolist() == [3, 8]
    assert np.unique(sums).size == 40 - 2
    assert count_zero_rows(rows.reshape(-1), row_bytes) == 2
