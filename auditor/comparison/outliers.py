"""Tensors of block scales that are wrong by orders of magnitude: how far from their kind, and which weights follow."""

from collections.abc import Iterator, Sequence
from math import inf, isfinite, log2

from msgspec import Struct

from auditor.comparison.bad_values import place, weight_of
from auditor.content.probes import Probes, ScaleValues, TensorValues
from auditor.families.scaling import SCALE_SUFFIX
from auditor.patterns import expert_of, kind_of
from auditor.text import plural
from auditor_schemas.rule import Failure, RoundTrip, Rule

# Medians of one kind are taken to differ between layers by a factor of 4 or so: 64 leaves a factor of 16 to spare.
APART = 64.0
# One block of heavy weights lies perhaps tens of times above the rest of its tensor; flipped bits lie at 256,
# 65,536 and more.
ALONE = 1024.0
# A kind that spreads by itself raises its own threshold: no tensor outlies where many are far from the median.
DEVIATIONS = 4.0
# Fewer tensors cannot say which of them is the odd one.
PEERS = 3
# Weights of 448 and more in half of the blocks; a scale of 1 makes them, and trained ones are of the order of 0.0001.
HEAVY = 448.0
# What no kind and no weight of a model spans: beyond, nothing but a mistake is left.
IMPOSSIBLE, IMPOSSIBLE_WEIGHT = 2.0**20, 2.0**16
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


def outliers(probes: Probes) -> tuple[Outlier, ...]:
    """Tensors with a median far from their kind's, or one that makes heavy weights, or a single scale that does."""
    tensors = [values for values in probes.scales() if values.scales is not None and _median(values.scales) > 0]
    kinds = _kinds(tensors)
    apart = {values.name: _deviation(values, kinds) for values in tensors}
    found = []
    for values in tensors:
        largest = _largest_code(values, probes)
        outlier = (
            _find_unscaled(values, largest) or _whole(values, kinds, apart, largest) or _single(values, kinds, largest)
        )
        if outlier is not None:
            found.append(outlier)
    return tuple(found)


class _Kind:
    """The medians of all tensors of a kind: their middle, how many there are, and the ratio at which one outlies."""

    def __init__(self, medians: Sequence[float]) -> None:
        self.tensors = len(medians)
        self.middle = _middle(medians)
        spread = _middle([abs(log2(each / self.middle)) for each in medians])
        self.limit = max(log2(APART), DEVIATIONS * spread)


def _middle(values: Sequence[float]) -> float:
    """The median, of an even number the upper one. The statistics module costs every audit of headers an import."""
    return sorted(values)[len(values) // 2]


def _kinds(tensors: Sequence[TensorValues]) -> dict[str, _Kind]:
    """Kinds with enough tensors to compare. Those of dead experts, at the clamp throughout, say nothing of a kind."""
    medians: dict[str, list[float]] = {}
    for values in tensors:
        assert values.scales is not None
        if _median(values.scales) > CLAMP:
            medians.setdefault(kind_of(values.name), []).append(_median(values.scales))
    return {kind: _Kind(each) for kind, each in medians.items() if len(each) >= PEERS}


def _median(scales: ScaleValues) -> float:
    return scales.median if scales.median is not None and isfinite(scales.median) else 0.0


def _deviation(values: TensorValues, kinds: dict[str, _Kind]) -> float:
    """How many powers of two a tensor's median lies above its kind's, or below, as a share of the limit."""
    kind = kinds.get(kind_of(values.name))
    assert values.scales is not None
    return 0.0 if kind is None else log2(_median(values.scales) / kind.middle) / kind.limit


def _largest_code(values: TensorValues, probes: Probes) -> float:
    """The largest |code| of the weight, 448 where it was not read."""
    weight = probes.tensors.get(values.name.removesuffix(SCALE_SUFFIX))
    if weight is None or weight.minimum is None or weight.maximum is None or weight.blocks is None:
        return 448.0
    return max(-weight.minimum, weight.maximum)


def _find_unscaled(values: TensorValues, largest: float) -> Outlier | None:
    """Scales of 1 throughout beside codes of full range: a loader takes the codes for the weights."""
    scales = values.scales
    assert scales is not None
    if not scales.minimum == scales.maximum == 1 or largest < UNSCALED:
        return None
    message = f"all {plural(scales.values, 'scale')} are 1: codes of up to {largest:g} are taken for the weights"
    return Outlier(values, message, None, None, impossible=True)


def _whole(values: TensorValues, kinds: dict[str, _Kind], apart: dict[str, float], largest: float) -> Outlier | None:
    """What is odd about the tensor's median."""
    assert values.scales is not None
    median, kind = _median(values.scales), kinds.get(kind_of(values.name))
    weight = largest * median
    middle = None if kind is None else kind.middle
    if kind is not None and (apart[values.name] > 1 or (apart[values.name] < -1 and not _may_be_dead(values, apart))):
        ratio = median / kind.middle
        times = f"{_times(ratio)} times" if ratio >= 1 else f"{_times(1 / ratio)} times below"
        others = f"{plural(kind.tensors, 'tensor')} of its kind"
        message = f"median scale {median:.3g} is {times} the {kind.middle:.3g} of {others}"
        if weight > IMPOSSIBLE_WEIGHT:
            message += f" and makes weights of {weight:.3g}"
        return Outlier(values, message, None, middle, ratio > IMPOSSIBLE or weight > IMPOSSIBLE_WEIGHT)
    if weight >= HEAVY:
        message = f"median scale {median:.3g} gives half of the blocks weights of {weight:.3g} and more"
        return Outlier(values, message, None, middle, weight > IMPOSSIBLE_WEIGHT)
    return None


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio < 1e6 else f"{ratio:.2g}"


def _may_be_dead(values: TensorValues, apart: dict[str, float]) -> bool:
    """Whether an expert that is never chosen explains small scales: it decays as a whole, in every matrix read."""
    expert = expert_of(values.name)
    if expert is None:
        return False
    head, _, _ = values.name.partition(f".mlp.experts.{expert}.")
    prefix = f"{head}.mlp.experts.{expert}."
    names = (f"{prefix}{each}_proj.weight_scale_inv" for each in ("gate", "up", "down"))
    return all(apart.get(name, -inf) < -0.5 for name in names)


def _single(values: TensorValues, kinds: dict[str, _Kind], largest: float) -> Outlier | None:
    """What is odd about the tensor's largest scale. A dead tensor's median is the clamp: its kind's counts instead."""
    scales = values.scales
    assert scales is not None
    kind = kinds.get(kind_of(values.name))
    base = max(_median(scales), kind.middle if kind is not None else 0.0)
    if scales.maximum is None or not isfinite(scales.maximum):
        return None
    weight, alone = largest * scales.maximum, base > CLAMP and scales.maximum >= ALONE * base
    if not alone and weight <= IMPOSSIBLE_WEIGHT:
        return None
    at = f" at {place(values, scales.largest)}" if scales.largest is not None else ""
    message = f"scale {scales.maximum:.3g}{at} is {_times(scales.maximum / base)} times the median {base:.3g}"
    if weight > IMPOSSIBLE_WEIGHT:
        message += f" and makes weights of {weight:.3g}"
    impossible = weight > IMPOSSIBLE_WEIGHT or (base > CLAMP and scales.maximum > IMPOSSIBLE * base)
    return Outlier(
        values,
        message,
        None if scales.largest is None else (scales.largest.begin, scales.largest.end),
        None if kind is None else kind.middle,
        impossible,
    )


def failures(rule: Rule, found: Sequence[Outlier], outlie: str) -> Iterator[Failure]:
    """One failure per tensor of such scales; the first says how many `outlie`, for they fold."""
    for position, each in enumerate(found):
        scales = each.values.scales
        assert scales is not None
        many = f"; {len(found):,} tensors of scales {outlie}" if position == 0 and len(found) > 1 else ""
        weight = weight_of(each.values.name)
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
            takes=(RoundTrip(weight),),
            fold=rule.slug,
        )
