"""Kinds of scales in which nothing can outlie are passed over as a whole, and nothing is passed over that outlies."""

from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.comparison import outliers
from auditor.content.probes import Probes
from auditor.content.values import ScaleValues, ShardValues, TensorValues

_KIND = "mlp.gate_proj.weight_scale_inv"
# From what an empty block gets to what makes weights of thousands, and around the bounds of 16, 64 and 1024 times.
_SCALE = st.sampled_from(
    [0.0, 2.0**-21, 1e-6, 0.0002, 0.0003, 0.0003 * 16, 0.0003 * 64, 0.1, 0.6, 0.99, 1.0, 1.5, 100.0]
)


@st.composite
def _values(draw: st.DrawFn) -> ScaleValues:
    least, median, most = sorted(draw(st.tuples(_SCALE, _SCALE, _SCALE)))
    kind = draw(st.sampled_from(["block", "block", "block", "group", "tensor"]))
    return ScaleValues(values=100, columns=10, minimum=least, median=median, maximum=most, kind=kind)


def _probes(scales: list[ScaleValues]) -> Probes:
    tensors = tuple(
        TensorValues(f"model.layers.{layer}.{_KIND}", "a", "F32", (10, 10), 100, 100, scales=each)
        for layer, each in enumerate(scales)
    )
    return Probes("full", 1, "cpu", (ShardValues("a", 1, tensors, 1),))


_ALIKE = ScaleValues(values=100, columns=10, minimum=0.0002, median=0.0003, maximum=0.0004)


@settings(max_examples=300)
@given(st.lists(_values(), max_size=3), st.integers(0, 6))
def test_a_kind_that_is_passed_over_has_no_outlier(some: list[ScaleValues], alike: int) -> None:
    probes = _probes([*some, *[_ALIKE] * alike])
    found = outliers.outliers(probes)
    calm, outliers._Kind.is_calm = outliers._Kind.is_calm, lambda *_: False
    try:
        assert outliers.outliers(probes) == found
    finally:
        outliers._Kind.is_calm = calm


def test_a_kind_of_scales_alike_is_passed_over() -> None:
    probes = _probes([_ALIKE] * 5)
    tensors = [(each, each.scales.median) for each in probes.scales]
    (kind,) = outliers._kinds(tensors, list(probes.names.values()), outliers.DEFAULT_THRESHOLDS).values()
    assert kind.is_calm(outliers.HEAVY / outliers.LARGEST)
