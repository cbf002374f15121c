"""The round trip of weight blocks against torch's own float8 casts, block by block and code by code."""

import numpy as np
import pytest
import torch

from auditor.content.blocks import Judge
from auditor.content.cpu import CpuDevice
from auditor.content.formats import Blocks
from auditor.content.fp8 import block_scales, decode_table, quantise
from auditor.content.kernels import roundtrip
from auditor.content.plan import Part, ScaleAt

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


def spread_weight(seed: int) -> np.ndarray:
    """Blocks of magnitudes from dead ones, far below the clamp, to heavy ones, one of zeros, and edge blocks."""
    random = np.random.default_rng(seed)
    magnitudes = np.exp(random.normal(0, 2, (7, 9))).astype(np.float32)
    magnitudes[0, 0], magnitudes[0, 1], magnitudes[1, 0] = 0, 1e-6, 1e-3
    spread = magnitudes.repeat(128, 0).repeat(128, 1)[: 6 * 128 + 70, : 8 * 128 + 30]
    return (random.standard_normal(spread.shape).astype(np.float32) * np.float32(0.02) * spread).astype(np.float32)


def amax_of(weight: np.ndarray) -> torch.Tensor:
    rows, columns = weight.shape
    padded = torch.nn.functional.pad(torch.from_numpy(weight), (0, -columns % 128, 0, -rows % 128))
    return padded.reshape(-(-rows // 128), 128, -(-columns // 128), 128).abs().amax(dim=(1, 3))


def codes_by(weight: np.ndarray, factors: torch.Tensor, bound: float = 448) -> np.ndarray:
    """The weight times its blocks' factors, as torch casts it."""
    rows, columns = weight.shape
    spread = factors.repeat_interleave(128, 0).repeat_interleave(128, 1)[:rows, :columns]
    scaled = (torch.from_numpy(weight) * spread).clamp(-bound, bound)
    return scaled.to(torch.float8_e4m3fn).view(torch.uint8).numpy()


def power_above(scale: torch.Tensor) -> torch.Tensor:
    mantissa, exponent = torch.frexp(scale)
    return torch.ldexp(torch.ones_like(scale), exponent - (mantissa == 0.5).int())


def by_transformers(weight: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """As its fine-grained FP8 quantiser: multiplied by 448 / amax, whose reciprocal is stored; 1 where all is zero."""
    amax = amax_of(weight)
    factor = torch.where(amax > 0, 448.0 / torch.where(amax > 0, amax, 1.0), 1.0)
    return codes_by(weight, factor), factor.reciprocal()


def by_clamped_reciprocal(weight: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    factor = 448.0 / amax_of(weight).clamp(min=1e-4)
    return codes_by(weight, factor), 1.0 / factor


def by_multiplication(weight: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """A compiler turns a division by a constant into this."""
    scale = amax_of(weight).clamp(min=1e-4) * torch.tensor(1.0 / 448.0)
    return codes_by(weight, 1.0 / scale), scale


def by_a_smaller_clamp(weight: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    scale = amax_of(weight).clamp(min=1e-12) / 448.0
    return codes_by(weight, 1.0 / scale), scale


def by_powers_of_two(weight: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    scale = power_above(amax_of(weight).clamp(min=1e-4) / 448.0)
    return codes_by(weight, 1.0 / scale), scale


IN_USE = [by_transformers, by_clamped_reciprocal, by_multiplication, by_a_smaller_clamp, by_powers_of_two]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("quantiser", IN_USE)
def test_what_a_quantiser_in_use_leaves_is_never_foreign(quantiser, seed: int) -> None:
    codes, scale = quantiser(spread_weight(seed))
    blocks = judged(codes, scale.numpy(), powers_of_two=False)
    assert (blocks.blocks, blocks.foreign, blocks.undefined, blocks.narrow) == (63, 0, 0, 0)
    assert blocks.first_foreign is blocks.first_other is None


def test_reciprocal_scales_that_drift_keep_their_codes() -> None:
    """FACTS: scales made as 1/(448/amax) fail the float test one time in ten."""
    codes, scale = by_clamped_reciprocal(
        np.random.default_rng(5).standard_normal((2048, 2048)).astype(np.float32) * np.float32(0.02)
    )
    blocks = judged(codes, scale.numpy(), powers_of_two=False)
    assert 0.04 < blocks.changed / blocks.blocks < 0.2
    assert blocks.drifted == blocks.changed
    assert 0 < blocks.error < 2.0**-22


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("powers", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_what_scaling_to_240_leaves_is_told_apart_from_damage(seed: int, powers: bool, declared: bool) -> None:
    weight = spread_weight(seed)
    scale = amax_of(weight).clamp(min=1e-4) / 240.0
    scale = power_above(scale) if powers else scale
    codes = codes_by(weight, 1.0 / scale, bound=240)
    if declared and not powers:
        return  # another rule's subject
    blocks = judged(codes, scale.numpy(), powers_of_two=declared)
    assert blocks.foreign == blocks.narrow > 30
    assert max(blocks.largest) <= 0x77
    assert blocks.first_other is None
    codes[256:384, 256:384] &= 0xBF  # the exponent's highest bit
    damaged = judged(codes, scale.numpy(), powers_of_two=declared)
    assert damaged.foreign - damaged.narrow == 1
    assert damaged.first_other is not None
    assert (damaged.first_other.row, damaged.first_other.column) == (2, 2)


def test_released_codes_rescaled_to_240_and_halved_codes_are_within_240() -> None:
    """Codes × 240/448 with scales × 448/240, and codes / 2 with scales × 2."""
    codes, scale = codes_by(spread_weight(1), 448.0 / amax_of(spread_weight(1)).clamp(min=1e-4)), None
    scale = amax_of(spread_weight(1)).clamp(min=1e-4) / 448.0
    for ratio in (240 / 448, 0.5):
        values = torch.from_numpy(codes).view(torch.float8_e4m3fn).float() * ratio
        rescaled = values.to(torch.float8_e4m3fn).view(torch.uint8).numpy()
        blocks = judged(rescaled, (scale / ratio).numpy(), powers_of_two=False)
        assert blocks.foreign == blocks.narrow > 30


@pytest.mark.parametrize("quantiser", [*IN_USE, None])
@pytest.mark.parametrize("seed", range(3))
def test_a_block_that_lost_bits_is_foreign_under_every_formula(quantiser, seed: int) -> None:
    weight = spread_weight(seed)
    if quantiser is None:
        scale = amax_of(weight).clamp(min=1e-4) / 448.0
        codes = codes_by(weight, 1.0 / scale)
    else:
        codes, scale = quantiser(weight)
    codes[384:512, 256:384] &= 0xBF
    blocks = judged(codes, scale.numpy(), powers_of_two=False)
    assert (blocks.foreign, blocks.unsaturated, blocks.narrow) == (1, 1, 0)
    assert blocks.first_foreign == blocks.first_other is not None
    assert (blocks.first_foreign.row, blocks.first_foreign.column) == (3, 2)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e-40, -(2.0**-13)])
def test_scales_that_are_no_positive_normal_numbers_are_no_formulas(scale: float) -> None:
    blocks = judged(np.full((4, 4), 0x7E, np.uint8), np.array([[scale]], np.float32), powers_of_two=False)
    assert blocks.foreign + blocks.undefined == 1


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
    codes[256:, 128:256] &= 0xBF
    codes[200, 130] = 0xFF
    blocks = judged(codes, scales, powers_of_two=False)
    assert blocks.first_changed is not None
    assert (blocks.first_changed.row, blocks.first_changed.column) == (2, 1)
    assert (blocks.first_changed.begin, blocks.first_changed.end) == (256 * 400, 300 * 400)
    assert blocks.first_nan is not None
    assert (blocks.first_nan.row, blocks.first_nan.column) == (1, 1)
    assert (blocks.blocks, blocks.undefined, blocks.changed) == (12, 1, 1)
    assert blocks.first_foreign == blocks.first_changed
