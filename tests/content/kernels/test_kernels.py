"""The CPU's kernels against plain numpy, for every shape that edges and odd blocks can make."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.content.cpu import CpuDevice, slab_bytes
from auditor.content.device import Buffer
from auditor.content.elements import FORMATS, Values, decoded
from auditor.content.kernels.reduce import zeros_at_end

TORCH = {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
}


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


@settings(deadline=None, max_examples=200)
@given(
    dtype=st.sampled_from(sorted(TORCH)),
    size=st.integers(1, 20_000),
    kind=st.sampled_from(["any", "finite", "positive", "negative", "zero", "same", "minus-zero"]),
    runs=st.integers(1, 4),
    seed=st.integers(0, 1 << 32),
)
def test_values_of_every_float_format_are_what_torch_reads(dtype, size, kind, runs, seed) -> None:
    random = np.random.default_rng(seed)
    unsigned = np.dtype(FORMATS[dtype].codes)
    top = 1 << (8 * unsigned.itemsize - 1)
    codes = random.integers(0, 2 * top, size, dtype=np.uint64).astype(unsigned)
    if kind == "finite":
        codes = np.minimum(codes & (top - 1), FORMATS[dtype].largest_finite).astype(unsigned) | (codes & top)
    elif kind == "positive":
        codes &= top - 1
    elif kind == "negative":
        codes |= top
    elif kind in ("zero", "same", "minus-zero"):
        codes[:] = {"zero": 0, "same": codes[0], "minus-zero": top}[kind]
    codes = codes.astype(unsigned)
    values = Values(dtype)
    position = 0
    for run in np.array_split(codes, runs):
        if run.size:
            aligned = np.ascontiguousarray(run).view(np.uint8)
            values.add(aligned, position, 100 + position * unsigned.itemsize)
            position += run.size
    seen = torch.from_numpy(codes.view(np.uint8).copy()).view(TORCH[dtype]).double().numpy()
    finite = seen[np.isfinite(seen)]
    assert values.read == size
    assert values.nan == np.count_nonzero(np.isnan(seen))
    assert values.infinite == np.count_nonzero(np.isinf(seen))
    assert values.zeros == np.count_nonzero(seen == 0)
    assert values.minimum == (finite.min() if finite.size else None)
    assert values.maximum == (finite.max() if finite.size else None)
    assert values.constant == (size > 1 and len(set(codes.tolist())) == 1)
    if finite.size < size:
        first = int(np.argmin(np.isfinite(seen)))
        assert values.first_nonfinite is not None
        assert values.first_nonfinite.element == first
        assert values.first_nonfinite.begin == 100 + first * unsigned.itemsize


@pytest.mark.parametrize("dtype", sorted(TORCH))
def test_every_code_decodes_to_torchs_value(dtype: str) -> None:
    form = FORMATS[dtype]
    magnitudes = range(form.largest_finite + 1) if form.largest_finite < 1 << 16 else (0, 1, 0x3F800000, 0x7F7FFFFF)
    for code in magnitudes:
        bits = np.array([code], form.codes).view(np.uint8)
        assert decoded(dtype, code) == torch.from_numpy(bits).view(TORCH[dtype]).double().item()
        assert decoded(dtype, -code) == -decoded(dtype, code)


@pytest.mark.parametrize(
    ("dtype", "array", "expected"),
    [
        ("F64", np.array([1.5, -np.inf, np.nan, 0.0]), (1, 1, 1, 0.0, 1.5)),
        ("I32", np.array([-7, 0, 0, 9], np.int32), (0, 0, 2, -7, 9)),
        ("BOOL", np.array([0, 1], np.uint8), (0, 0, 1, 0, 1)),
        ("F8_E8M0", np.array([127, 0xFF, 128], np.uint8), (1, 0, 0, 1.0, 2.0)),
    ],
)
def test_rare_dtypes_are_summed_up_too(dtype, array, expected) -> None:
    values = Values(dtype)
    values.add(array.view(np.uint8), 0, 0)
    assert (values.nan, values.infinite, values.zeros, values.minimum, values.maximum) == expected


@pytest.mark.parametrize(("data", "count"), [(b"", 0), (b"\0\0", 2), (b"a\0\0", 2), (b"\0b", 0), (b"\0c\0", 1)])
def test_zeros_at_the_end_are_counted_from_the_end(data: bytes, count: int) -> None:
    assert zeros_at_end(np.frombuffer(bytearray(data), np.uint8)) == count


@settings(deadline=None)
@given(offset=st.integers(0, 1 << 40), size=st.integers(1, 300_000))
def test_a_buffer_keeps_its_distance_from_the_page_cache_and_aligns_elements(offset: int, size: int) -> None:
    """Copies from a page to the same page 1 to 31 bytes further are an order of magnitude slower."""
    run = Buffer(1000).at(offset, size)
    assert run.size == size
    assert run.ctypes.data % 64 == 0
    assert 32 <= (run.ctypes.data - offset) % 4096 < 4096


@pytest.mark.parametrize(("threads", "each"), [(1, 4), (2, 4), (32, 4), (64, 2), (128, 1), (1000, 1)])
def test_threads_share_a_budget_of_buffers(threads: int, each: int) -> None:
    assert slab_bytes(threads) == each << 20
