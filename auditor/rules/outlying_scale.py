"""Block scales have the magnitude of their kind: not a reciprocal's, not another tensor's."""

from collections.abc import Iterator, Sequence
from math import inf, isfinite, log2

from auditor.names import expert_of, kind_of
from auditor.probes import Probes, ScaleValues, TensorValues
from auditor.text import plural
from auditor.values import place, round_trip_of, span, weight_of
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL108",
    slug="outlying-scale",
    title="Block scales are wrong by orders of magnitude",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="scales read",
)

# Medians of one kind are taken to differ between layers by a factor of 4 or so: 64 leaves a factor of 16 to spare.
APART = 64.0
# One block of heavy weights lies perhaps tens of times above the rest of its tensor; flipped bits lie at 256,
# 65,536 and more.
ALONE = 1024.0
# A kind that spreads by itself raises its own threshold: no tensor outlies where many are far from the median.
DEVIATIONS = 4.0
# Fewer tensors cannot say which of them is the odd one.
PEERS = 3
# A scale of 1 means weights up to 448 in each block; trained ones are of the order of 0.0001.
ABSURD = 1.0
# The least that an all but empty block gets, with some room for powers of two.
CLAMP = 1e-4 / 448 * 2.5


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per tensor of scales with a median far from its kind's, or a single value far above the rest."""
    tensors = [values for values in probes.scales() if values.scales is not None and _median(values.scales) > 0]
    kinds = _kinds(tensors)
    apart = {values.name: _deviation(values, kinds) for values in tensors}
    found = [(values, *told) for values in tensors if (told := _whole(values, kinds, apart) or _single(values, kinds))]
    for position, (values, message, at) in enumerate(found):
        assert values.scales is not None
        scales = values.scales
        many = f"; {len(found):,} tensors of scales outlie" if position == 0 and len(found) > 1 else ""
        yield RULE.failure(
            message + many,
            file=values.file,
            tensor=values.name,
            span=at,
            expected=None if (kind := kinds.get(kind_of(values.name))) is None else {"median": kind.middle},
            actual={
                "weight": weight_of(values.name),
                "minimum": scales.minimum,
                "median": scales.median,
                "maximum": scales.maximum,
            },
            takes=(round_trip_of(weight_of(values.name)),),
            fold=RULE.slug,
        )


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


def _whole(
    values: TensorValues, kinds: dict[str, _Kind], apart: dict[str, float]
) -> tuple[str, tuple[int, int] | None] | None:
    """What is odd about the tensor's median."""
    assert values.scales is not None
    middle, kind = _median(values.scales), kinds.get(kind_of(values.name))
    if kind is not None and (apart[values.name] > 1 or (apart[values.name] < -1 and not _may_be_dead(values, apart))):
        ratio, word = middle / kind.middle, "times"
        if ratio < 1:
            ratio, word = 1 / ratio, "times below"
        return (
            f"median scale {middle:.3g} is {_times(ratio)} {word} the {kind.middle:.3g} "
            f"of {plural(kind.tensors, 'tensor')} of its kind",
            None,
        )
    if middle >= ABSURD:
        return f"median scale {middle:.3g} gives half of the blocks weights of {448 * middle:.3g} and more", None
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


def _single(values: TensorValues, kinds: dict[str, _Kind]) -> tuple[str, tuple[int, int] | None] | None:
    """What is odd about the tensor's largest scale. A dead tensor's median is the clamp: its kind's counts instead."""
    scales = values.scales
    assert scales is not None
    kind = kinds.get(kind_of(values.name))
    base = max(_median(scales), kind.middle if kind is not None else 0.0)
    if base <= CLAMP or scales.maximum is None or not isfinite(scales.maximum) or scales.maximum < ALONE * base:
        return None
    at = f" at {place(values, scales.largest)}" if scales.largest is not None else ""
    return f"scale {scales.maximum:.3g}{at} is {_times(scales.maximum / base)} times the median {base:.3g}", span(
        scales.largest
    )
