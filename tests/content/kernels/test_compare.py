"""The kernels that compare two sides, against torch and numpy."""

import numpy as np
import pytest
import torch

from auditor.content.fp8 import decode_table
from auditor.content.kernels import compare
from auditor.content.kernels.needed import prepare_comparison

ROWS, COLUMNS, WIDTH = 37, 300, 128
GRID_ROWS = np.arange(ROWS) // 16
GRID = (3, 3)


@pytest.fixture(autouse=True, scope="module")
def _prepared():
    prepare_comparison()


@pytest.fixture
def random():
    return np.random.default_rng(3)


def _odd(random, size):
    """Values of every magnitude, with what is no number among them."""
    bits = random.integers(0, 1 << 32, size, np.uint32)
    bits[:8] = [0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 1, 0x007FFFFF, 0x7F7FFFFF]
    return bits.view(np.float32)


def _measured(old, new, floor, new_form, old_form, bound):
    counts, measures = np.zeros(compare.COUNTS, np.int64), np.zeros(compare.MEASURES)
    firsts, sums = np.full(compare.FIRSTS, -1, np.int64), np.zeros((*GRID, compare.SUMS))
    floors = np.full(GRID, floor, np.float32)
    compare.measure(
        old, new, COLUMNS, GRID_ROWS, WIDTH, floors, new_form, old_form, bound, counts, measures, firsts, sums
    )
    return counts, measures, firsts, sums


@pytest.mark.parametrize(
    ("form", "dtype"),
    [(compare.BFLOAT16, torch.bfloat16), (compare.HALF, torch.float16), (compare.FLOAT32, torch.float32)],
)
def test_rounding_is_torchs(random, form, dtype):
    old = _odd(random, ROWS * COLUMNS)
    old[64:4096] = random.standard_normal(4032).astype(np.float32) * np.float32(10) ** random.integers(-9, 6, 4032)
    new = torch.from_numpy(old.copy()).to(dtype).float().numpy()
    counts, *_ = _measured(old, new, 2.0**-126, form, form, 2.0**-8)
    assert counts[compare.UNEQUAL] == 0
    wrong = new.copy()
    wrong[100] = np.nextafter(wrong[100], np.float32(np.inf))
    counts, _, firsts, _ = _measured(old, wrong, 2.0**-126, form, form, 2.0**-8)
    assert (counts[compare.UNEQUAL], firsts[compare.FIRST_UNEQUAL]) == (1, 100)


def test_errors_and_sums_are_numpys(random):
    old = random.standard_normal(ROWS * COLUMNS).astype(np.float32)
    new = (old * (1 + random.standard_normal(old.size).astype(np.float32) * np.float32(0.01))).astype(np.float32)
    new[5::7] = old[5::7]
    new[11] = np.inf
    old[12] = new[12] = np.nan
    counts, measures, firsts, sums = _measured(old, new, 0.25, -1, compare.BFLOAT16, 2.0**-6)
    known = np.isfinite(old) & np.isfinite(new)
    exact = [each[known].astype(np.float64) for each in (old, new)]
    error = np.abs(exact[1] - exact[0]) / np.maximum(np.abs(exact[0]), 0.25)
    assert counts[compare.CHANGED] == np.count_nonzero(exact[0] != exact[1]) + 1
    assert counts[compare.NOT_FINITE] == 1
    assert counts[compare.BEYOND] == np.count_nonzero(error > 2.0**-6) + 1
    assert measures[compare.LARGEST] == pytest.approx(error.max(), rel=1e-6)
    assert measures[compare.SQUARES] == pytest.approx(np.square(error).sum(), rel=1e-5)
    assert firsts[compare.FIRST_BEYOND] == min(11, int(np.flatnonzero(known)[np.argmax(error > 2.0**-6)]))
    assert sums.sum(axis=(0, 1))[compare.BOTH] == pytest.approx(float(exact[0] @ exact[1]), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_code_times_a_scale_is_torchs(random, dtype):
    codes = np.resize(np.delete(np.arange(256, dtype=np.uint8), [0x7F, 0xFF]), ROWS * COLUMNS)
    scale_rc = (random.uniform(0.5, 1.5, GRID) * np.float32(10) ** random.integers(-8, 3, GRID)).astype(np.float32)
    spread = torch.from_numpy(np.repeat(scale_rc[GRID_ROWS], WIDTH, axis=1)[:, :COLUMNS].copy())
    values = torch.from_numpy(codes.reshape(ROWS, COLUMNS)).view(torch.float8_e4m3fn).float() * spread
    cast = values.to(dtype).contiguous().view(torch.int16 if dtype == torch.bfloat16 else torch.int32).numpy().ravel()
    others = cast.view(np.uint16 if dtype == torch.bfloat16 else np.uint32)
    form = compare.BFLOAT16 if dtype == torch.bfloat16 else compare.FLOAT32
    assert compare.agree(codes, COLUMNS, GRID_ROWS, scale_rc, WIDTH, others, form)
    out = np.empty(codes.size, np.float32)
    compare.dequantise(codes, COLUMNS, GRID_ROWS, scale_rc, WIDTH, decode_table(), out)
    assert (out.view(np.uint32) == values.numpy().ravel().view(np.uint32)).all()
    for place in (0, 129, codes.size - 1):
        wrong = others.copy()
        wrong[place] ^= 1
        assert not compare.agree(codes, COLUMNS, GRID_ROWS, scale_rc, WIDTH, wrong, form)
    codes[7] = 0x7F  # whatever the other side has there
    assert not compare.agree(codes, COLUMNS, GRID_ROWS, scale_rc, WIDTH, others, form)


@pytest.mark.parametrize("exponent", [-3, 0])
def test_codes_follow_from_values_as_torch_encodes_them(random, exponent):
    old = (random.standard_normal((ROWS, COLUMNS)) * 10.0**exponent).astype(np.float32)
    old[random.random(old.shape) < 0.2] *= np.float32(1e-3)
    amax = np.zeros(GRID, np.float32)
    for r in range(GRID[0]):
        for c in range(GRID[1]):
            amax[r, c] = np.abs(old[r == GRID_ROWS][:, c * WIDTH : (c + 1) * WIDTH]).max()
    scale_rc = np.maximum(amax, np.float32(1e-4)) / np.float32(448)
    spread = np.repeat(scale_rc[GRID_ROWS], WIDTH, axis=1)[:, :COLUMNS]
    codes = torch.from_numpy(old / spread).to(torch.float8_e4m3fn).view(torch.uint8).numpy().ravel().copy()

    def followed(codes):
        counts, found = np.zeros(compare.FORMULAS, np.int64), np.zeros(GRID, np.float32)
        compare.find_largest(old.ravel(), COLUMNS, GRID_ROWS, WIDTH, found)
        compare.follow(old.ravel(), codes, COLUMNS, GRID_ROWS, WIDTH, scale_rc, compare.AS_FLOAT32, counts)
        assert (found == amax).all()
        return counts

    assert followed(codes)[compare.PUBLISHED] == 9
    assert followed(codes)[compare.POWER] < 9
    for place in (0, 200, codes.size - 1):
        wrong = codes.copy()
        wrong[place] ^= 3
        assert followed(wrong)[compare.PUBLISHED] == 8


@pytest.mark.parametrize("size", [1, 511, 512, 513, 5000])
def test_every_byte_counts(random, size):
    one = random.integers(0, 256, size, np.uint8)
    assert compare.same(one, one.copy())
    for place in {0, size // 2, size - 1}:
        other = one.copy()
        other[place] ^= 0x80
        assert not compare.same(one, other)
