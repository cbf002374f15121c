"""The CPU's kernels against plain numpy, for every shape that edges and odd blocks can make."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.content.cpu import CpuDevice
from auditor.content.kernels.reduce import zeros_at_end


def plain_extremes(codes: np.ndarray, block: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int]:
    rows, columns = codes.shape
    grid = (-(-rows // block[0]), -(-columns // block[1]))
    signed, unsigned = np.empty(grid, np.int8), np.empty(grid, np.uint8)
    for r in range(grid[0]):
        for c in range(grid[1]):
            part = codes[r * block[0] : (r + 1) * block[0], c * block[1] : (c + 1) * block[1]]
            signed[r, c], unsigned[r, c] = part.view(np.int8).max(), part.max()
    return signed, unsigned, int(np.count_nonzero((codes & 0x7F) == 0))


@settings(deadline=None, max_examples=150)
@given(
    rows=st.integers(1, 700),
    columns=st.integers(1, 300),
    block=st.sampled_from([(128, 128), (64, 32), (1, 128), (300, 7), (128, 1000)]),
    kind=st.sampled_from(["any", "zero", "positive", "negative", "nan"]),
    seed=st.integers(0, 1 << 32),
)
def test_extremes_of_blocks_are_what_numpy_finds(rows, columns, block, kind, seed) -> None:
    random = np.random.default_rng(seed)
    low, high = {"any": (0, 256), "zero": (0, 1), "positive": (0, 128), "negative": (128, 256), "nan": (126, 128)}[kind]
    codes = random.integers(low, high, (rows, columns), dtype=np.uint8)
    device = CpuDevice()
    found = device.extremes(codes.reshape(-1), columns, block).result()
    signed, unsigned, zeros = plain_extremes(codes, block)
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


@pytest.mark.parametrize(("data", "count"), [(b"", 0), (b"\0\0", 2), (b"a\0\0", 2), (b"\0b", 0), (b"\0c\0", 1)])
def test_zeros_at_the_end_are_counted_from_the_end(data: bytes, count: int) -> None:
    assert zeros_at_end(np.frombuffer(bytearray(data), np.uint8)) == count
