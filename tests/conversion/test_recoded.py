"""Blocks by their codes, against every element by itself."""

import numpy as np
import pytest

from auditor.content.fp8 import decode_table
from auditor.conversion.recoded import differences, recoded

TABLE = decode_table()
ROWS, COLUMNS, BLOCK = 40, 70, 16


def _sides(seed: int) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Codes, what each became by a table of its block, and scales; the last blocks are partial."""
    random = np.random.default_rng(seed)
    one = random.integers(0, 0x7F, (ROWS, COLUMNS), np.uint8) | random.integers(0, 2, (ROWS, COLUMNS), np.uint8) << 7
    moved = random.integers(-1, 2, (3, 5))
    shift = np.repeat(np.repeat(moved, BLOCK, 0)[:ROWS], BLOCK, 1)[:, :COLUMNS]
    size = np.clip((one & 0x7F).astype(np.int64) + shift, 0, 0x7E).astype(np.uint8)
    scales = random.uniform(0.5, 1, (2, 3, 5)).astype(np.float32)
    return one, (one & 0x80) | size, (scales[0], scales[1])


def _spread(scale: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(scale, BLOCK, 0)[:ROWS], BLOCK, 1)[:, :COLUMNS]


@pytest.mark.parametrize("seed", range(4))
def test_what_blocks_say_by_their_codes_is_what_every_element_says(seed):
    one, other, scales = _sides(seed)
    rows, floor = np.arange(ROWS) // BLOCK, np.full((3, 5), 2.0**-6, np.float32)
    found = recoded(one.reshape(-1), other.reshape(-1), COLUMNS, rows, BLOCK, scales)
    assert found is not None
    assert found.count_rck.sum() == one.size
    seen = differences(found, one.reshape(-1), COLUMNS, rows, BLOCK, floor, np.inf)
    assert seen is not None
    old, new = TABLE[one] * _spread(scales[0]), TABLE[other] * _spread(scales[1])
    error = np.abs(new - old) / np.maximum(np.abs(old), _spread(floor))
    assert seen.unequal == (old != new).sum()
    assert seen.first == np.flatnonzero(old != new)[0]
    assert seen.largest == error.max()
    assert seen.squares == pytest.approx((error.astype(np.float64) ** 2).sum())
    for r in range(3):
        for c in range(5):
            block = np.s_[r * BLOCK : (r + 1) * BLOCK, c * BLOCK : (c + 1) * BLOCK]
            wide, after = old[block].astype(np.float64), new[block].astype(np.float64)
            wanted = [(wide * wide).sum(), (after * after).sum(), (wide * after).sum()]
            assert seen.sums_rcs[r, c].tolist() == pytest.approx(wanted)
    assert differences(found, one.reshape(-1), COLUMNS, rows, BLOCK, floor, float(error.max()) * 0.99) is None


def test_a_code_that_became_two_in_one_block_is_left_to_who_looks_at_every_element():
    one, other, scales = _sides(0)
    rows = np.arange(ROWS) // BLOCK
    one[20, 20] = one[21, 21] = 0x30
    other[20, 20], other[21, 21] = 0x30, 0x31
    assert recoded(one.reshape(-1), other.reshape(-1), COLUMNS, rows, BLOCK, scales) is None


@pytest.mark.parametrize("side", [0, 1])
def test_a_value_that_is_no_number_is_left_to_who_looks_at_every_element(side):
    one, other, scales = _sides(0)
    scales[side][1, 1] = np.nan
    assert recoded(one.reshape(-1), other.reshape(-1), COLUMNS, np.arange(ROWS) // BLOCK, BLOCK, scales) is None
