"""Values that a tensor should not hold: which tensors have them, how many, where the first stands, in words."""

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from auditor.content.probes import Probes
from auditor.content.values import Position, ScaleValues, TensorValues, weight_of
from auditor.format.dtypes import BITS, FP8
from auditor.text import plural
from auditor_schemas.rule import Failure, RoundTrip, Rule, Subject


class Bad(Struct, frozen=True):
    """One tensor's values that it should not hold: how many of how many read, and the first of them."""

    values: TensorValues
    count: int
    of: int
    first: Position | None = None


# What scales of each kind are called, one and several.
SCALES = {
    "block": ("block scale", "block scales"),
    "group": ("group scale", "group scales"),
    "tensor": ("scale of the whole weight", "scales of the whole weight"),
    "input": ("scale of activations", "scales of activations"),
}


def bad_scales(probes: Probes, *kinds: str) -> list[Bad]:
    """Tensors of scales that hold values of these odd kinds, named as the fields of ScaleValues."""
    found = []
    for values in probes.odd_scales:
        scales = values.scales
        assert scales is not None
        count = sum(getattr(scales, kind) for kind in kinds)
        if count:
            places = [scales.first[kind] for kind in kinds if kind in scales.first]
            first = min(places, key=lambda place: place.element, default=None)
            found.append(Bad(values, count, scales.values, first))
    return found


def zero_scales(probes: Probes) -> list[Bad]:
    """Tensors of scales that hold 0."""
    return bad_scales(probes, "zero")


def is_underflow(bad: Bad) -> bool:
    """Whether zeros are what E4M3 makes of scales too small for it: of groups, the less part of them.

    A writer without a clamp leaves these where a group is a thousandth of its weight's other groups.
    """
    scales = bad.values.scales
    return scales is not None and scales.kind == "group" and bad.values.dtype == FP8 and 2 * bad.count < bad.of


def failures(
    rule: Rule,
    found: Sequence[Bad],
    message: Callable[[Bad], str],
    *,
    expected: str,
    actual: Callable[[Bad], object],
    takes: Callable[[TensorValues], Sequence[Subject]] = lambda _: (),
    whole: bool = False,
) -> Iterator[Failure]:
    """A failure for each, which fold; the message of the first, which stands for all then, has the sums.

    `takes`: what such a tensor takes along. `whole`: what is bad are whole tensors, so only they are counted.
    """
    for position, bad in enumerate(found):
        text = message(bad)
        if position == 0 and len(found) > 1:
            sums = f"{len(found):,} tensors are alike"
            text += f"; {sums if whole else f'{sum(each.count for each in found):,} in {len(found):,} tensors'}"
        yield rule.failure(
            text,
            file=bad.values.file,
            tensor=bad.values.name,
            span=None if bad.first is None else (bad.first.begin, bad.first.end),
            expected=expected,
            actual=actual(bad),
            takes=takes(bad.values),
            fold=rule.slug,
        )


def scale_failures(
    rule: Rule, found: Sequence[Bad], message: Callable[[Bad], str], *, expected: str
) -> Iterator[Failure]:
    """The same of block scales, each of which takes the round trip of its weight along."""
    return failures(rule, found, message, expected=expected, actual=scale_actual, takes=round_trip_of_scale)


def scales_are(what: str) -> Callable[[Bad], str]:
    """A message for bad scales: how many of how many are `what`, and where the first stands."""

    def message(bad: Bad) -> str:
        verb = "is" if bad.count == 1 else "are"
        return f"{bad.count:,} of {bad.of:,} {named_scales(bad)} {verb} {what}{first_place(bad)}"

    return message


def named_scales(bad: Bad) -> str:
    """What bad scales are called, of as many as were read."""
    scales = bad.values.scales
    assert scales is not None
    return SCALES[scales.kind][bad.of != 1]


def first_place(bad: Bad) -> str:
    """', the first (nan) at block row 0, column 2' of scales, ': nan at …' of one; row and column of another value."""
    if bad.first is None:
        return ""
    at = place(bad.values, bad.first)
    return f", the first ({bad.first.text}) at {at}" if bad.count > 1 else f": {bad.first.text} at {at}"


def place(values: TensorValues, position: Position) -> str:
    """A value's place in words."""
    if values.scales is not None and len(values.shape) > 1:
        row, column = block_of(values.scales, position)
        what = "block row" if values.scales.kind == "block" else "row"
        return f"{what} {row:,}, column {column:,}"
    if len(values.shape) < 2:
        return f"element {position.element:,}"
    row, column = divmod(position.element, values.shape[-1])
    return f"row {row:,}, column {column:,}"


def block_of(scales: ScaleValues, position: Position) -> tuple[int, int]:
    """The block row and column that a scale belongs to."""
    return divmod(position.element, max(1, scales.columns))


def own_round_trip(weight: TensorValues) -> tuple[RoundTrip]:
    """What a weight's values take along: the round trip of its blocks."""
    return (RoundTrip(weight.name),)


def round_trip_of_scale(scale: TensorValues) -> tuple[RoundTrip]:
    """What a tensor of scales takes along: the round trip of its weight's blocks."""
    return (RoundTrip(weight_of(scale)),)


def scale_actual(bad: Bad) -> dict[str, object]:
    """What was found of bad scales, for programs: the weight, the first's block and value, how many."""
    scales = bad.values.scales
    assert scales is not None
    actual: dict[str, object] = {"weight": weight_of(bad.values), "scales": bad.count, "of": bad.of}
    if bad.first is not None:
        actual |= {"block": list(block_of(scales, bad.first)), "value": bad.first.text}
    return actual


def share(values: TensorValues) -> str:
    """'all 61,440 values', or at depth sample 'all 16,384 values read of 61,440'."""
    read, of = values.read * values.packing, values.elements * values.packing
    bits = BITS.get(values.dtype, 8) // values.packing
    some = plural(read, "value") if values.packing == 1 else f"{read:,} codes of {bits} bits"
    return f"all {some}" if values.whole else f"all {some} read of {of:,}"
