"""Tensors of block scales that are wrong by orders of magnitude: how far from their kind, and which weights follow."""

from collections.abc import Iterator, Sequence
from math import inf, isfinite, log2

from msgspec import Struct

from auditor.comparison.bad_values import place
from auditor.content.probes import Probes
from auditor.content.values import ScaleValues, TensorValues, weight_of
from auditor.families.naming import Name
from auditor.format.dtypes import FP8
from auditor.text import plural
from auditor_schemas.policy import DEFAULT_THRESHOLDS, Thresholds
from auditor_schemas.rule import Failure, RoundTrip, Rule

# How far above the rest of its tensor one scale of groups or of a whole weight may lie; those of blocks average more
# weights, and the policy says how far they may.
ALONE = 1024.0
# A kind whose tensors all have one scale far from the rest, as channels of outliers leave it, raises its own threshold.
ALIKE = 4.0
# A kind that spreads by itself raises its own threshold: no tensor outlies where many are far from the median.
DEVIATIONS = 4.0
# Fewer tensors cannot say which of them is the odd one.
PEERS = 3
# Weights of 448 and more in half of the blocks; a scale of 1 makes them, and trained ones are of the order of 0.0001.
HEAVY = 448.0
# No code of any format makes more of a scale of 1.
LARGEST = 448.0
# With scales of 1 the codes themselves are the weights; a cast of weights to codes leaves none of this size.
UNSCALED = 224.0
# The least that an all but empty block gets, with some room for powers of two.
CLAMP = 1e-4 / 448 * 2.5


class Outlier(Struct, frozen=True):
    """A tensor of scales that outlies, in words, with the bytes of the scale that does where it is one.

    `middle` is the median of its kind, where there are enough of the kind. `impossible`: no model has such weights.
    """

    values: TensorValues
    message: str
    at: tuple[int, int] | None
    middle: float | None
    impossible: bool


def outliers(probes: Probes, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> tuple[Outlier, ...]:
    """Tensors with a median far from their kind's, or one that makes heavy weights, or a single scale that does.

    Scales of activations are as they are, and those of groups in E4M3 have a scale of their own.
    """
    tensors = [(values, median) for values in probes.scales if (median := _median(values)) > 0]
    names = probes.names
    said = [names[values.name] for values, _ in tensors]
    kinds = _kinds(tensors, said, thresholds)
    light = min(HEAVY, thresholds.heavy_value) / LARGEST
    if sum(kind.tensors for kind in kinds.values() if kind.is_calm(light)) == len(tensors):
        return ()
    kind_of = [kinds.get(name.kind) for name in said]
    apart = [_deviation(median, kind) for (_, median), kind in zip(tensors, kind_of, strict=True)]
    dead = _dead(said, apart)
    found = []
    for (values, median), name, kind, far in zip(tensors, said, kind_of, apart, strict=True):
        largest = LARGEST if _is_light(values, median, light) else _largest_code(values, probes)
        outlier = (
            _find_unscaled(values, largest)
            or _whole(values, median, kind, None if far < -1 and _expert(name) in dead else far, largest, thresholds)
            or _single(values, median, kind, largest, thresholds)
            or _small(values, median, kind, thresholds)
        )
        if outlier is not None:
            found.append(outlier)
    return tuple(found)


def _median(values: TensorValues) -> float:
    """The median of comparable scales; 0 where there is none, or they are not comparable."""
    scales = values.scales
    if scales is None or scales.kind == "input" or values.dtype == FP8:
        return 0.0
    median = scales.median
    return median if median is not None and isfinite(median) else 0.0


class _Kind:
    """The medians of all tensors of a kind: their middle, how many there are, and the ratio at which one outlies.

    `above` and `below` are how far a block scale may lie from its tensor's median.
    """

    def __init__(self, members: Sequence[tuple[ScaleValues, float]], thresholds: Thresholds) -> None:
        medians = [median for _, median in members]
        self.tensors = len(medians)
        self.middle = middle = _middle(medians)
        ratios = [abs(log2(each / middle)) for each in medians]
        spread, self._apart = _middle(ratios), max(ratios)
        apart = log2(thresholds.kind_apart)
        self.limit = max(apart, DEVIATIONS * spread)
        self.agrees = DEVIATIONS * spread <= apart
        # How far the largest scale is above its tensor's median, and the smallest below, in the middle of the kind.
        above = [(each.maximum or 0.0) / median for each, median in members]
        below = [median / each.minimum if each.minimum else 1.0 for each, median in members]
        self.above = max(thresholds.scale_above, ALIKE * _middle(above))
        self.below = max(thresholds.scale_below, ALIKE * _middle(below))
        self._most_above, self._most_below = max(above), max(below)
        self._largest = max([max(each.maximum or inf, median) for each, median in members])
        self._blocks = all(each.kind == "block" for each, _ in members)

    def is_calm(self, light: float) -> bool:
        """Whether no tensor of it can outlie: its scales are of blocks, near each other, and make nothing heavy."""
        return (
            self._blocks
            and self._apart <= self.limit
            and self._most_above < self.above
            and self._most_below < self.below
            and self._largest < min(light, 1.0)
        )


def _middle(values: Sequence[float]) -> float:
    """The median, of an even number the upper one. The statistics module costs every audit of headers an import."""
    return sorted(values)[len(values) // 2]


def _kinds(
    tensors: Sequence[tuple[TensorValues, float]], said: Sequence[Name], thresholds: Thresholds
) -> dict[str, _Kind]:
    """Kinds with enough tensors to compare. Those of dead experts, at the clamp throughout, say nothing of a kind."""
    members: dict[str, list[tuple[ScaleValues, float]]] = {}
    for (values, median), name in zip(tensors, said, strict=True):
        if median > CLAMP and values.scales is not None:
            members.setdefault(name.kind, []).append((values.scales, median))
    return {kind: _Kind(each, thresholds) for kind, each in members.items() if len(each) >= PEERS}


def _deviation(median: float, kind: _Kind | None) -> float:
    """How many powers of two a tensor's median lies above its kind's, or below, as a share of the limit."""
    return 0.0 if kind is None else log2(median / kind.middle) / kind.limit


def _is_light(values: TensorValues, median: float, light: float) -> bool:
    """Whether scales are so small that no code makes anything heavy of them: the weight's largest need not be known."""
    scales = values.scales
    if scales is None or scales.kind == "tensor" or scales.maximum is None:
        return False
    return scales.maximum < light and median < light


def _largest_code(values: TensorValues, probes: Probes) -> float:
    """What the largest |code| of the weight makes of a scale of 1; the format's largest where it was not read.

    Under a scale of the whole weight that includes the largest scale of a group, where there are such.
    """
    scales = values.scales
    assert scales is not None
    if scales.kind == "tensor":
        groups = [each.scales for each in probes.companions[weight_of(values)] if each.scales is not None]
        return scales.largest_code * max((each.maximum or 0.0 for each in groups if each.kind == "group"), default=1.0)
    weight = probes.tensors.get(weight_of(values))
    if weight is None or weight.blocks is None:
        return scales.largest_code
    least, most = weight.minimum, weight.maximum
    if least is None or most is None:
        return scales.largest_code
    return most if most > -least else -least


def _find_unscaled(values: TensorValues, largest: float) -> Outlier | None:
    """Scales of 1 throughout beside codes of full range: a loader takes the codes for the weights."""
    scales = values.scales
    assert scales is not None
    if not scales.minimum == scales.maximum == 1 or largest < UNSCALED:
        return None
    message = f"all {plural(scales.values, 'scale')} are 1: codes of up to {largest:g} are taken for the weights"
    return Outlier(values, message, None, None, impossible=True)


def _whole(
    values: TensorValues,
    median: float,
    kind: _Kind | None,
    apart: float | None,
    largest: float,
    thresholds: Thresholds,
) -> Outlier | None:
    """What is odd about the tensor's median; `apart` is None where nothing odd is meant by how far it is below."""
    assert values.scales is not None
    weight = largest * median
    middle = None if kind is None else kind.middle
    if kind is not None and apart is not None and abs(apart) > 1:
        ratio = median / kind.middle
        times = f"{_times(ratio)} times" if ratio >= 1 else f"{_times(1 / ratio)} times below"
        others = f"{plural(kind.tensors, 'tensor')} of its kind"
        message = f"median scale {median:.3g} is {times} the {kind.middle:.3g} of {others}"
        heavy, far = weight > thresholds.heavy_value, thresholds.impossible_scale
        if heavy:
            message += f" and makes weights of {weight:.3g}"
        impossible = heavy or ratio > far or (kind.agrees and ratio < 1 / far)
        return Outlier(values, message, None, middle, impossible)
    if weight >= HEAVY:
        gives = "gives half of the blocks weights" if values.scales.kind == "block" else "makes weights"
        message = f"median scale {median:.3g} {gives} of {weight:.3g} and more"
        return Outlier(values, message, None, middle, weight > thresholds.heavy_value)
    return None


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio < 1e6 else f"{ratio:.2g}"


def _expert(name: Name) -> tuple[int, int] | None:
    """A routed expert by layer and number."""
    return None if name.layer is None or name.expert is None else (name.layer, name.expert)


def _dead(said: Sequence[Name], apart: Sequence[float]) -> set[tuple[int, int] | None]:
    """The experts that are never chosen, which explains small scales: they decay as a whole, in every matrix read."""
    small = {_expert(name) for name, deviation in zip(said, apart, strict=True) if deviation < -1} - {None}
    if not small:
        return small
    return small - {_expert(name) for name, deviation in zip(said, apart, strict=True) if deviation >= -0.5}


def _single(
    values: TensorValues, median: float, kind: _Kind | None, largest: float, thresholds: Thresholds
) -> Outlier | None:
    """What is odd about the tensor's largest scale. A dead tensor's median is the clamp: its kind's counts instead."""
    scales = values.scales
    assert scales is not None
    most = scales.maximum
    if most is None or not isfinite(most):
        return None
    base = median if kind is None or kind.middle < median else kind.middle
    limit = ALONE if scales.kind != "block" else thresholds.scale_above if kind is None else kind.above
    weight, alone = largest * most, base > CLAMP and most >= limit * base
    heavy = weight > thresholds.heavy_value
    if not alone and not heavy:
        return None
    at = f" at {place(values, scales.largest)}" if scales.largest is not None else ""
    message = f"scale {most:.3g}{at} is {_times(most / base)} times the median {base:.3g}"
    if heavy:
        message += f" and makes weights of {weight:.3g}"
    impossible = heavy or (base > CLAMP and most > thresholds.impossible_scale * base)
    return Outlier(
        values,
        message,
        None if scales.largest is None else (scales.largest.begin, scales.largest.end),
        None if kind is None else kind.middle,
        impossible,
    )


def _small(values: TensorValues, median: float, kind: _Kind | None, thresholds: Thresholds) -> Outlier | None:
    """What is odd about the smallest scale of blocks that are not all but empty."""
    scales = values.scales
    assert scales is not None
    least = scales.minimum
    if scales.kind != "block" or least is None or least <= CLAMP or median <= CLAMP:
        return None
    limit = thresholds.scale_below if kind is None else kind.below
    if median < limit * least:
        return None
    at = f" at {place(values, scales.smallest)}" if scales.smallest is not None else ""
    return Outlier(
        values,
        f"scale {least:.3g}{at} is {_times(median / least)} times below the median {median:.3g}",
        None if scales.smallest is None else (scales.smallest.begin, scales.smallest.end),
        None if kind is None else kind.middle,
        impossible=False,
    )


def failures(rule: Rule, found: Sequence[Outlier], outlie: str) -> Iterator[Failure]:
    """One failure per tensor of such scales; the first says how many `outlie`, for they fold.

    Impossible ones take along what else is said of the scales: bytes of something else are of any sign and size.
    """
    for position, each in enumerate(found):
        scales = each.values.scales
        assert scales is not None
        many = f"; {len(found):,} tensors of scales {outlie}" if position == 0 and len(found) > 1 else ""
        weight = weight_of(each.values)
        yield rule.failure(
            each.message + many,
            file=each.values.file,
            tensor=each.values.name,
            span=each.at,
            expected=None if each.middle is None else {"median": each.middle},
            actual={
                "weight": weight,
                "minimum": scales.minimum,
                "median": scales.median,
                "maximum": scales.maximum,
            },
            takes=(RoundTrip(weight), *((each.values.name,) if each.impossible else ())),
            fold=rule.slug,
        )
