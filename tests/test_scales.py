"""What is odd about block scales, kind by kind, against plain Python on the same numbers."""

import math
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from auditor.content.outcomes import CLAMPED_SCALE
from auditor.content.scales import probe_scales

ODD = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 1e-39, -2.5, 2.0**-126, 2.0**-22, float(CLAMPED_SCALE)]


@given(st.lists(st.one_of(st.sampled_from(ODD), st.floats(width=32)), min_size=1, max_size=40))
def test_every_scale_is_counted_as_what_it_is(numbers: list[float]) -> None:
    scales = np.array(numbers, np.float32)
    values = [float(each) for each in scales]
    normal = 2.0**-126
    good = sorted(each for each in values if normal <= each < math.inf)
    found = probe_scales(scales, 1, 1000, powers_of_two=True)
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
    assert probe_scales(np.array([CLAMPED_SCALE, 1e-3], np.float32), 2, 0, powers_of_two=False).clamped == 1
