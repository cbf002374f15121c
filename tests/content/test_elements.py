"""What is summed up of a tensor's elements, for every dtype, against torch and numpy on the same bytes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.content.elements import FORMATS, Values, decode

TORCH = {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
}


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
        assert decode(dtype, code) == torch.from_numpy(bits).view(TORCH[dtype]).double().item()
        assert decode(dtype, -code) == -decode(dtype, code)


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
