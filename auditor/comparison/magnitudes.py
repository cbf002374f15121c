"""Unquantised tensors whose values have magnitudes that training leaves to none, or to none of their kind."""

from collections.abc import Iterator, Sequence
from math import log2
from typing import Literal

from msgspec import Struct

from auditor.content.probes import Probes
from auditor.content.values import TensorValues
from auditor_schemas.policy import Thresholds
from auditor_schemas.rule import Failure, Rule

Oddness = Literal["bits", "heavy", "kind"]

# Values this many powers of two from their median are far: of a bell curve one in a million is that small.
FAR = 20
# A kind that spreads by itself raises its own threshold; fewer tensors cannot say which of them is the odd one.
DEVIATIONS, PEERS = 4, 3
# Fewer values have no middle.
ENOUGH = 8


class Magnitude(Struct, frozen=True):
    """A tensor of odd magnitude: its bits are another format's or order's, one value is heavy, or its kind differs."""

    values: TensorValues
    oddness: Oddness
    message: str
    expected: object
    actual: object


def odd_magnitudes(probes: Probes, thresholds: Thresholds) -> tuple[Magnitude, ...]:
    """Every such tensor, each told once. Scales have a rule of their own, biases no kind."""
    tensors = [values for values in probes.others if values.exponents]
    found = {}
    for values in tensors:
        odd = _bits(values, thresholds) or _heavy(values, thresholds)
        if odd is not None:
            found[values.name] = odd
    kinds: dict[str, list[TensorValues]] = {}
    for values in tensors:
        if values.role in ("weight", "norm") and _count(values) >= ENOUGH:
            kinds.setdefault(probes.names[values.name].kind, []).append(values)
    for members in kinds.values():
        if len(members) >= PEERS:
            for odd in _apart(members, thresholds, probes):
                found.setdefault(odd.values.name, odd)
    return tuple(found.values())


def failures(rule: Rule, odd: Sequence[Magnitude], oddness: Oddness) -> Iterator[Failure]:
    """One failure per tensor of this oddness; they fold, and the first says how many there are.

    Bits that are no numbers of the dtype take along whatever else is said of the tensor.
    """
    found = [each for each in odd if each.oddness == oddness]
    for position, each in enumerate(found):
        many = f"; {len(found):,} tensors are alike" if position == 0 and len(found) > 1 else ""
        yield rule.failure(
            each.message + many,
            file=each.values.file,
            tensor=each.values.name,
            expected=each.expected,
            actual=each.actual,
            takes=(each.values.name,) if oddness == "bits" else (),
            fold=rule.slug,
        )


def _count(values: TensorValues) -> int:
    return sum(values.exponents.values())


def median_exponent(values: TensorValues) -> int:
    """The middle one of the exponents."""
    left = _count(values) // 2
    for exponent in sorted(values.exponents):
        left -= values.exponents[exponent]
        if left < 0:
            return exponent
    return 0


def far_share(values: TensorValues) -> float:
    """The share of values that are far from the median."""
    middle = median_exponent(values)
    far = sum(count for exponent, count in values.exponents.items() if abs(exponent - middle) > FAR)
    return far / max(1, _count(values))


def _bits(values: TensorValues, thresholds: Thresholds) -> Magnitude | None:
    known = _count(values)  # of a few values in another order one may look like 0 or NaN
    if values.read < ENOUGH or (known < ENOUGH and 2 * known < values.read):
        return None
    middle, far = median_exponent(values), far_share(values)
    if far > thresholds.far_exponents:
        message = (
            f"{100 * far:.0f} % of the {values.dtype} values read are more than 2^{FAR} from their median 2^{middle}"
        )
        return Magnitude(
            values, "bits", message, {"share": thresholds.far_exponents}, {"share": far, "median": 2.0**middle}
        )
    if 2.0**middle > thresholds.heavy_value:
        message = f"half of the {values.dtype} values read are {2.0**middle:.3g} and more"
        return Magnitude(values, "bits", message, {"median": thresholds.heavy_value}, {"median": 2.0**middle})
    if 2.0**middle < thresholds.light_median and values.role not in ("bias", "router_bias"):
        message = f"half of the {values.dtype} values read are below {2.0 ** (middle + 1):.3g}"
        return Magnitude(values, "bits", message, {"median": thresholds.light_median}, {"median": 2.0**middle})
    return None


def _heavy(values: TensorValues, thresholds: Thresholds) -> Magnitude | None:
    least, most = values.minimum or 0.0, values.maximum or 0.0
    largest = least if -least > most else most
    if abs(largest) <= thresholds.heavy_value:
        return None
    message = f"holds {largest:.3g}, and half of its values are below {2.0 ** (median_exponent(values) + 1):.3g}"
    return Magnitude(values, "heavy", message, {"largest": thresholds.heavy_value}, {"largest": largest})


def _apart(members: Sequence[TensorValues], thresholds: Thresholds, probes: Probes) -> Iterator[Magnitude]:
    """Tensors with a median far from their kind's. An expert that is never chosen decays, and may be small."""
    medians = [median_exponent(values) for values in members]
    middle = sorted(medians)[len(medians) // 2]
    spread = sorted(abs(each - middle) for each in medians)[len(medians) // 2]
    limit = max(log2(thresholds.kind_apart), DEVIATIONS * spread)
    for values, median in zip(members, medians, strict=True):
        expert = probes.names[values.name].expert is not None
        if median - middle >= limit or (middle - median >= limit and not expert):
            message = (
                f"half of the values are below {2.0 ** (median + 1):.3g}, those of {len(members):,} tensors of its kind"
            )
            yield Magnitude(
                values,
                "kind",
                f"{message} below {2.0 ** (middle + 1):.3g}",
                {"median": 2.0**middle},
                {"median": 2.0**median},
            )
