"""What is odd about block scales, kind by kind, against plain Python on the same numbers."""

import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditor.content.fp8 import CLAMP, LARGEST
from auditor.content.plan import Beside, Part
from auditor.content.scales import CodeSurvey, Survey
from auditor.content.stored import as_floats
from auditor.content.values import ScaleValues

CLAMPED_SCALE = CLAMP / LARGEST
ODD = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 1e-39, -2.5, 2.0**-126, 2.0**-22, float(CLAMPED_SCALE)]


def probe_scales(scales: np.ndarray, begin: int = 0, *, powers_of_two: bool = False, runs: int = 1) -> ScaleValues:
    """A tensor of F32 scales, looked at in so many runs."""
    survey = Survey(Part("w_scale_inv", "F32", scales.shape, begin, begin + scales.nbytes), powers_of_two=powers_of_two)
    element = 0
    for run in np.array_split(scales.reshape(-1), runs):
        if run.size:
            survey.add(run.copy().view(np.uint8), element)
            element += run.size
    return survey.result()


@given(st.lists(st.one_of(st.sampled_from(ODD), st.floats(width=32)), min_size=1, max_size=40), st.integers(1, 4))
def test_every_scale_is_counted_as_what_it_is(numbers: list[float], runs: int) -> None:
    scales = np.array(numbers, np.float32)
    values = [float(each) for each in scales]
    normal = 2.0**-126
    good = sorted(each for each in values if normal <= each < math.inf)
    found = probe_scales(scales, 1000, powers_of_two=True, runs=runs)
    assert found.values == len(values)
    assert found.nan == sum(math.isnan(each) for each in values)
    assert found.infinite == sum(math.isinf(each) for each in values)
    assert found.zero == sum(each == 0 for each in values)
    assert found.subnormal == sum(0 < each < normal for each in values)
    assert found.negative == sum(-math.inf < each < 0 for each in values)
    assert found.powers_of_two == sum(math.frexp(each)[0] == 0.5 for each in good)
    assert found.minimum == (good[0] if good else None)
    assert found.maximum == (good[-1] if good else None)
    assert found.median == (good[len(good) // 2] if good else None)
    assert found.exponents == Counter(math.frexp(each)[1] - 1 for each in good)
    if good:
        assert found.largest is not None
        assert values[found.largest.element] == good[-1]
    for kind, position in found.first.items():
        assert position.begin == 1000 + 4 * position.element
        odd = {
            "nan": math.isnan, "infinite": math.isinf, "zero": lambda each: each == 0,
            "subnormal": lambda each: 0 < each < normal, "negative": lambda each: -math.inf < each < 0,
            "not_power_of_two": lambda each: normal <= each < math.inf and math.frexp(each)[0] != 0.5,
        }[kind]  # fmt: skip
        assert next(place for place, each in enumerate(values) if odd(each)) == position.element


def test_a_clamped_scale_is_told_from_others() -> None:
    assert probe_scales(np.array([CLAMPED_SCALE, 1e-3], np.float32)).clamped == 1


def test_scales_beyond_number_are_looked_at_in_bounded_memory_and_their_median_keeps_eight_bits() -> None:
    """Two threads at once must leave most of 300 MB to buffers and libraries."""
    scale = np.random.default_rng(0).uniform(1e-4, 2e-4, (5, 1 << 20)).astype(np.float32)
    scale[3, 7], scale[4, 9] = -1, 3
    probe_scales(scale[:1, :10])
    part = Part("w_scale_inv", "F32", scale.shape, 0, scale.nbytes)
    tracemalloc.start()
    try:
        survey = Survey(part, powers_of_two=False)
        for row in range(5):
            survey.add(scale[row].view(np.uint8), row << 20)
        found = survey.result()
        assert tracemalloc.get_traced_memory()[1] <= 64 << 20
    finally:
        tracemalloc.stop()
    assert (found.values, found.negative, found.maximum) == (5 << 20, 1, 3)
    assert found.first["negative"].element == (3 << 20) + 7
    assert found.largest is not None
    assert (found.largest.element, found.largest.begin) == ((4 << 20) + 9, 4 * ((4 << 20) + 9))
    assert found.median == pytest.approx(np.median(scale), rel=2.0**-7)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F64", "F8_E8M0"])
def test_scales_of_other_float_dtypes_are_the_numbers_that_torch_reads(dtype: str) -> None:
    kind = {"BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64, "F8_E8M0": torch.float8_e8m0fnu}[dtype]
    data = bytes(range(256)) * 8
    read = torch.frombuffer(bytearray(data), dtype=kind).float().numpy()
    assert np.array_equal(as_floats(data, dtype), read, equal_nan=True)


@pytest.mark.parametrize("seed", range(3))
def test_scales_are_counted_by_the_formulas_that_give_them(seed: int) -> None:
    """Of either formula all of its own scales, and about nine and eight in ten of the other's."""
    amax = torch.from_numpy(np.exp(np.random.default_rng(seed).uniform(-9, 3, (50, 400))).astype(np.float32))
    published = probe_scales((amax / 448.0).numpy())
    reciprocal = probe_scales((448.0 / amax).reciprocal().numpy())
    divided = probe_scales((torch.tensor(448.0) / amax).reciprocal().numpy())
    assert published.published == reciprocal.reciprocal == divided.reciprocal == 20_000
    assert 15_500 < published.reciprocal < 17_500
    assert 17_500 < reciprocal.published < 19_000
    other = probe_scales(np.random.default_rng(seed).uniform(1e-4, 2e-4, (50, 400)).astype(np.float32))
    assert other.published < 18_700
    assert other.reciprocal < 17_500


@given(st.lists(st.integers(0, 255), min_size=1, max_size=40), st.integers(1, 4))
def test_the_largest_and_the_smallest_scale_of_8_bits_have_their_places(codes: list[int], runs: int) -> None:
    stored = np.array(codes, np.uint8)
    survey = CodeSurvey(
        Part("w.scale", "F8_E8M0", stored.shape, 1000, 1000 + stored.size), Beside("w", "block", True, 448.0)
    )
    element = 0
    for run in np.array_split(stored, runs):
        if run.size:
            survey.add(run.copy(), element)
            element += run.size
    found, sound = survey.result(), [code for code in codes if code != 0xFF]
    if sound:
        assert found.largest is not None
        assert found.smallest is not None
        places = found.smallest.element, found.largest.element
        assert places == (codes.index(min(sound)), codes.index(max(sound)))
        assert found.smallest.begin == 1000 + codes.index(min(sound))
