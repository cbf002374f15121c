"""What codes, pages, rows and strips look like, whatever the size of the runs in which they come."""

import numpy as np
import pytest
import xxhash

from auditor.content.cpu import CpuDevice
from auditor.content.kernels.looks import most_of
from auditor.content.plan import PAGE, Part
from auditor.content.texture import CodeTexture, Exponents, Pages, Rows, Strips
from auditor.content.values import Texture

BLOCK = (128, 128)
COLUMNS = 512
BEGIN = 1000  # of the tensor in its file


def _codes(rows: int = 256) -> np.ndarray:
    """Codes as a bell curve leaves them, scaled to 448."""
    from auditor.content.fp8 import block_scales, quantise

    weight = np.random.default_rng(0).standard_normal((rows, COLUMNS), np.float32)
    return quantise(weight, block_scales(weight, BLOCK), BLOCK)


def _texture(codes: np.ndarray, *, rows_at_once: int = 128, scale: float = 1e-3) -> Texture:
    part = Part("w", "F8_E4M3", codes.shape, BEGIN, BEGIN + codes.size)
    texture, device = CodeTexture(part, BLOCK), CpuDevice()
    for row in range(0, len(codes), rows_at_once):
        strip = np.ascontiguousarray(codes[row : row + rows_at_once]).reshape(-1)
        place = BEGIN + row * COLUMNS
        extremes = device.extremes(strip, COLUMNS, BLOCK, place % PAGE).result()
        _, _, alike, most = most_of(extremes.signed_rc, extremes.unsigned_rc, extremes.alike_r, extremes.small)
        scale_rc = np.full(extremes.signed_rc.shape, scale, np.float32)
        texture.add(strip, place, extremes, scale_rc, alike=alike, most=most)
    return texture.result()


def _page(number: int) -> slice:
    """Where a page of the file lies in the codes."""
    begin = (number * PAGE) - BEGIN
    return slice(begin, begin + PAGE)


def test_codes_of_weights_have_no_runs_and_few_that_are_small():
    found = _texture(_codes())
    assert (found.zero_run, found.sign_run, found.small_pages) == (0, 0, 0)
    assert 0 < found.small < 0.01


@pytest.mark.parametrize("rows_at_once", [128, 256])
def test_what_is_found_does_not_depend_on_how_many_rows_are_read_at_once(rows_at_once):
    codes = _codes()
    random = np.random.default_rng(1).integers(0, 0x7F, PAGE, np.uint8)
    codes.reshape(-1)[_page(16)] = random | np.random.default_rng(2).integers(0, 2, PAGE, np.uint8) << 7
    codes[200, 64:128] = 0
    assert _texture(codes, rows_at_once=rows_at_once) == _texture(codes)


@pytest.mark.parametrize("number", [3, 16, 17, 31])
def test_a_page_of_random_codes_is_found_where_it_is(number):
    codes = _codes()
    random = np.random.default_rng(1)
    codes.reshape(-1)[_page(number)] = random.integers(0, 0x7F, PAGE, np.uint8) | random.integers(0, 2, PAGE) << 7
    found = _texture(codes)
    assert found.small_pages == 1
    assert 0.2 < found.small < 0.3
    assert (found.first_small.begin, found.first_small.end) == (number * PAGE, (number + 1) * PAGE)


def test_small_codes_without_large_ones_are_those_of_a_block_with_an_outlier():
    codes = _codes()
    codes[:, :] = np.where((codes & 0x7F) > 0x30, codes - 0x30, codes & 0x80)  # a sixty-fourth of what they were
    codes[::128, ::128] = 0x7E
    found = _texture(codes)
    assert found.small_pages == 0


def test_runs_of_zeros_and_of_one_sign_are_told_apart_measured_and_placed():
    codes = _codes()
    codes[5, 64:192] = 0
    codes.reshape(-1)[127 * COLUMNS + 64 : 129 * COLUMNS] = 0x30  # over two rows of blocks
    codes[7, 30:94] = 0x30  # not from a multiple of 64 columns on
    found = _texture(codes)
    assert (found.zero_run, found.sign_run) == (128, 2 * COLUMNS - 64)
    assert (found.first_zeros.begin, found.first_zeros.end) == (
        BEGIN + 5 * COLUMNS + 64,
        BEGIN + 5 * COLUMNS + 192,
    )
    assert found.first_sign.begin == BEGIN + 127 * COLUMNS + 64


def test_zeros_of_either_sign_are_those_of_a_channel_that_decayed():
    codes = _codes()
    codes[5] &= 0x80
    assert _texture(codes).zero_run == 0


def test_channels_that_decayed_are_no_page_of_random_codes():
    codes = _codes()
    codes[:, ::3] = codes[:, ::3] & 0x80 | 3
    found = _texture(codes)
    assert found.small_pages == 0
    assert found.small < 1 / 16


def test_empty_blocks_are_left_out():
    codes = _codes()
    codes[:128, :128] = 0
    assert _texture(codes).zero_run == 0
    codes[:] = 0
    codes[3, 3] = 1
    assert _texture(codes, scale=1e-4 / 448).zero_run == 0


@pytest.mark.parametrize("cut", [1 << 20, 5000, 8192, 100])
def test_a_page_that_is_there_twice_is_found_wherever_runs_are_cut(cut):
    data = np.random.default_rng(0).integers(0, 256, 60_000, np.uint8)
    part = Part("w", "BF16", (100, 300), BEGIN, BEGIN + data.size)
    data[_page(7)] = data[_page(6)]
    data[_page(11)] = data[_page(10)] = 5
    pages = Pages(part)
    for begin in range(0, data.size, cut):
        pages.add(data[begin : begin + cut], BEGIN + begin)
    assert pages.doubled == 1
    assert pages.first.begin == 7 * PAGE


@pytest.mark.parametrize("cut", [1 << 20, 1280, 640])
def test_strips_of_128_rows_have_a_number_each_however_they_come(cut):
    data = np.random.default_rng(0).integers(0, 256, 300 * 64, np.uint8)
    data[128 * 64 : 256 * 64] = 0
    strips = Strips(Part("w", "U8", (300, 64), 0, data.size))
    for begin in range(0, data.size, cut):
        strips.add(data[begin : begin + cut], begin)
    wanted = [xxhash.xxh3_64_intdigest(data[: 128 * 64].data), 0, xxhash.xxh3_64_intdigest(data[256 * 64 :].data)]
    assert np.frombuffer(strips.result(), "<u8").tolist() == wanted


def test_rows_of_zeros_and_rows_that_are_there_twice_are_counted():
    rows = np.random.default_rng(0).integers(0, 256, (50, 70), np.uint8)
    rows[3:6] = 0
    rows[10], rows[20] = rows[11], rows[11]
    part = Part("w", "BF16", (50, 35), 0, rows.size)
    for twice, doubled in ((True, 2), (False, 0)):
        seen = Rows(part, twice=twice)
        seen.add(rows[:20].reshape(-1), 0)
        seen.add(rows[20:].reshape(-1), 1400)
        found = seen.result()
        assert (found.rows, found.zeros, found.doubled) == (50, 3, doubled)


@pytest.mark.parametrize(("dtype", "view"), [("BF16", np.uint16), ("F32", np.uint32)])
def test_exponents_are_those_of_frexp(dtype, view):
    values = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    bits = values.view(np.uint32) >> 16 if dtype == "BF16" else values.view(np.uint32)
    data = bits.astype(view).view(np.uint8)
    exponents = Exponents(Part("w", dtype, (3000,), 0, data.size))
    exponents.add(data, 0)
    kept = (bits.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else values
    counted = np.unique(np.frexp(kept)[1] - 1, return_counts=True)
    assert exponents.result() == dict(zip(*(each.tolist() for each in counted), strict=True))


def test_of_a_large_tensor_an_eighth_is_counted_wherever_runs_are_cut():
    data = np.random.default_rng(0).integers(0, 256, 2 << 20, np.uint8)
    part = Part("w", "BF16", (1 << 10, 1 << 10), BEGIN, BEGIN + data.size)
    found = []
    for cut in (1 << 21, 12_288, 100 * 2048):
        exponents = Exponents(part)
        for begin in range(0, data.size, cut):
            exponents.add(data[begin : begin + cut], BEGIN + begin)
        found.append(exponents.result())
    assert sum(found[0].values()) < (1 << 20) / 7.9
    assert found[0] == found[1] == found[2]
