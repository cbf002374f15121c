"""The round trip of weight blocks against torch's own float8 casts, block by block and code by code."""

import numpy as np
import pytest
import torch

from auditor.content import roundtrip
from auditor.content.cpu import CpuDevice
from auditor.content.fp8 import block_scales, decode_table, quantise
from auditor.content.judge import Judge
from auditor.content.plan import Blocks, Part, ScaleAt

CLAMP = np.float32(1e-4)
MAGNITUDES = decode_table()[:128].copy()
CLAMPED = np.float32(CLAMP / np.float32(448))
ODD_SCALES = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 1e-40, -1e-40, 2.0**-126, 3e38, 1e36, -1e-3, 1.0, 2.0**-22, 2.0**-23,
     2.0**-21, 2.0**-10, CLAMPED, np.nextafter(CLAMPED, np.float32(0)), np.nextafter(CLAMPED, np.float32(1)),
     -CLAMPED, 2e-4, 1e-8],
    np.float32,
)  # fmt: skip


def reference(codes: np.ndarray, scale: np.float32, *, powers_of_two: bool) -> tuple[str, float, bool]:
    """Dequantise and quantise one block with torch: the outcome, the largest relative error, whether codes survive."""
    with np.errstate(all="ignore"):
        fp8 = torch.from_numpy(codes).view(torch.float8_e4m3fn)
        weight = fp8.float() * torch.tensor(scale)
        if not torch.isfinite(weight).all() or not np.isfinite(scale):
            return "undefined", 0.0, False
        amax = torch.clamp(weight.abs().max(), min=1e-4)
        again = amax / 448
        if powers_of_two:
            mantissa, exponent = np.frexp(np.float32(again))
            again = torch.tensor(np.ldexp(np.float32(1), exponent - 1 if mantissa == 0.5 else exponent))
        requantised = torch.clamp(weight / again, -448, 448).to(torch.float8_e4m3fn)
        back = requantised.float() * again
        same_codes = bool((requantised.view(torch.uint8) == fp8.view(torch.uint8)).all())
        same_scale = np.float32(again).view(np.uint32) == np.float32(scale).view(np.uint32)
        if same_codes and same_scale:
            return "exact", 0.0, True
        if bool((back == weight).all()):
            return "value_equal", 0.0, same_codes
        differs = back != weight
        error = ((back.double() - weight.double()).abs() / weight.double().abs())[differs].max()
        return "changed", float(error), same_codes


def judged(codes: np.ndarray, scales: np.ndarray, *, powers_of_two: bool, block=(128, 128)):
    """What the judge makes of a weight (R × C) with its scales (r × c)."""
    columns = codes.shape[1]
    part = Part("w", "F8_E4M3", codes.shape, 0, codes.size, (), ScaleAt("s", 0, 4 * scales.size, scales.shape))
    judge = Judge(part, scales, Blocks(block, powers_of_two))
    device = CpuDevice()
    flat = np.ascontiguousarray(codes).reshape(-1)
    judge.add(flat, 0, device.extremes(flat, columns, block).result())
    return judge.result()


def outcome_of(codes: np.ndarray, scale: np.float32, *, powers_of_two: bool) -> tuple[str, float, bool]:
    blocks = judged(codes, np.array([[scale]], np.float32), powers_of_two=powers_of_two)
    assert blocks.blocks == 1
    name = next(each for each in ("exact", "value_equal", "changed", "undefined") if getattr(blocks, each))
    survive = name == "exact" or blocks.drifted == 1
    return name, blocks.error, survive


@pytest.mark.parametrize("powers_of_two", [False, True])
def test_every_code_under_every_odd_scale_ends_as_torch_says(powers_of_two: bool) -> None:
    for code in range(256):
        block = np.full((1, 3), code, np.uint8)
        for scale in ODD_SCALES:
            expected, error, _ = reference(block, scale, powers_of_two=powers_of_two)
            name, measured, _ = outcome_of(block, scale, powers_of_two=powers_of_two)
            assert (name, measured) == (expected, error), (code, scale)


@pytest.mark.parametrize("powers_of_two", [False, True])
def test_random_blocks_under_odd_scales_end_as_torch_says(powers_of_two: bool) -> None:
    random = np.random.default_rng(1)
    for _ in range(60):
        highest = random.integers(1, 128)
        block = random.integers(0, highest, (8, 16), dtype=np.uint8) | (
            random.integers(0, 2, (8, 16), dtype=np.uint8) << 7
        )
        for scale in ODD_SCALES:
            expected = reference(block, scale, powers_of_two=powers_of_two)
            measured = outcome_of(block, scale, powers_of_two=powers_of_two)
            assert measured[:2] == expected[:2], (highest, scale)
            if expected[0] == "changed":
                assert measured[2] == expected[2]


@pytest.mark.parametrize("powers_of_two", [False, True])
def test_one_float_test_decides_exactness_as_the_arithmetic_does(powers_of_two: bool) -> None:
    """The shortcut against the arithmetic over random float32 mantissas and largest codes."""
    random = np.random.default_rng(2)
    count = 4_000
    largest = np.where(random.random(count) < 0.7, 126, random.integers(1, 127, count)).astype(np.int64)
    exponents = random.integers(-30, 4, count)
    scales = np.ldexp(random.uniform(1, 2, count), exponents).astype(np.float32)
    scales = np.where(random.random(count) < 0.3, np.ldexp(np.float32(1), exponents), scales).astype(np.float32)
    for top, scale in zip(largest, scales, strict=True):
        present = np.zeros(128, np.bool_)
        present[: top + 1] = True
        outcome = roundtrip.reproduce(present, MAGNITUDES, scale, powers_of_two)[0]
        again = roundtrip.requantised_scale(MAGNITUDES[top], scale, powers_of_two)
        assert (again == scale) == (outcome == roundtrip.EXACT), (top, scale)
        codes = np.arange(top + 1, dtype=np.uint8).reshape(1, -1)
        assert (
            reference(codes, scale, powers_of_two=powers_of_two)[0]
            == (["", "exact", "value_equal", "changed", "undefined"][outcome])
        )


@pytest.mark.parametrize("powers_of_two", [False, True])
def test_what_the_published_formula_leaves_is_never_foreign(powers_of_two: bool) -> None:
    random = np.random.default_rng(3)
    spread = np.exp(random.normal(0, 2, (5, 7))).repeat(128, 0).repeat(128, 1)[: 4 * 128 + 64, : 6 * 128 + 32]
    weight = (random.standard_normal(spread.shape) * 0.02 * spread).astype(np.float32)
    weight[:128, :128] = 0
    weight[128:256, :128] *= np.float32(1e-6)
    scales = block_scales(weight, (128, 128), powers_of_two=powers_of_two)
    blocks = judged(quantise(weight, scales, (128, 128)), scales, powers_of_two=powers_of_two)
    assert blocks.blocks == 35
    assert blocks.foreign == blocks.changed == blocks.undefined == 0
    assert blocks.zero >= 1
    if not powers_of_two:
        assert blocks.exact == 35


def test_scales_that_went_through_bf16_drift_by_less_than_half_a_percent() -> None:
    """FACTS: through bfloat16 the codes survive and every scale drifts, at most 0.39 %."""
    random = np.random.default_rng(4)
    weight = random.standard_normal((512, 512)).astype(np.float32) * np.float32(0.02)
    scales = block_scales(weight, (128, 128))
    codes = quantise(weight, scales, (128, 128))
    rounded = torch.from_numpy(scales).bfloat16().float().numpy()
    blocks = judged(codes, rounded, powers_of_two=False)
    assert blocks.blocks == 16
    assert blocks.drifted == blocks.changed
    assert blocks.error < 0.0039


def test_about_a_tenth_of_reciprocal_scales_drift_by_an_ulp() -> None:
    """FACTS: scales made as 1/(448/amax) fail the float test one time in ten."""
    random = np.random.default_rng(5)
    weight = random.standard_normal((2048, 2048)).astype(np.float32) * np.float32(0.02)
    amax = np.abs(weight).reshape(16, 128, 16, 128).max(axis=(1, 3))
    scales = (np.float32(1) / (np.float32(448) / amax)).astype(np.float32)
    blocks = judged(quantise(weight, scales, (128, 128)), scales, powers_of_two=False)
    assert 0.04 < blocks.changed / blocks.blocks < 0.2
    assert blocks.drifted == blocks.changed == blocks.foreign
    assert 0 < blocks.error < 2.0**-22


def test_a_largest_code_of_224_at_half_the_scale_is_what_rounding_up_leaves() -> None:
    codes = np.full((4, 4), 0x76, np.uint8)
    scale = np.array([[2.0**-9]], np.float32)
    blocks = judged(codes, scale, powers_of_two=True)
    assert (blocks.value_equal, blocks.foreign) == (1, 0)
    lower = judged(np.full((4, 4), 0x70, np.uint8), scale, powers_of_two=True)
    assert (lower.value_equal, lower.foreign, lower.unsaturated) == (1, 1, 1)


def test_first_foreign_block_is_named_by_its_row_and_column() -> None:
    random = np.random.default_rng(6)
    weight = random.standard_normal((300, 400)).astype(np.float32)
    scales = block_scales(weight, (128, 128))
    codes = quantise(weight, scales, (128, 128))
    scales[2, 1] *= np.float32(3)
    codes[200, 130] = 0xFF
    blocks = judged(codes, scales, powers_of_two=False)
    assert blocks.first_changed is not None
    assert (blocks.first_changed.row, blocks.first_changed.column) == (2, 1)
    assert (blocks.first_changed.begin, blocks.first_changed.end) == (256 * 400, 300 * 400)
    assert blocks.first_nan is not None
    assert (blocks.first_nan.row, blocks.first_nan.column) == (1, 1)
    assert (blocks.blocks, blocks.undefined, blocks.changed) == (12, 1, 1)
    assert blocks.first_foreign == blocks.first_changed
