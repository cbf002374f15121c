"""Tensors, and strips of 128 rows, that hold the bytes of others: no chance, and no writer's intention but a few."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

from msgspec import Struct

from auditor.content.probes import Probes
from auditor.content.values import TensorValues
from auditor_schemas.policy import Thresholds

# Scales of 24 bits are told by so many that are no powers of two; of powers of two a few occur all over.
SCALES = 16
_WIDTH = 8  # bytes of the number of a strip


class Strip(Struct, frozen=True):
    """A strip of a tensor: which of how many of those read."""

    values: TensorValues
    number: int
    of: int

    def __str__(self) -> str:
        return f"strip {self.number + 1} of {self.of} of {self.values.name}"


class Equal(Struct, frozen=True):
    """Sets of tensors with equal bytes, the first of each in storage order first, and of strips of other tensors."""

    tensors: Sequence[Sequence[TensorValues]] = ()
    strips: Sequence[Sequence[Strip]] = ()


def equal_bytes(probes: Probes, thresholds: Thresholds, *, tied: bool) -> Equal:
    """What is equal among tensors that the config implies, but for what other rules tell, or what is declared.

    `tied`: the head is declared to be the embedding. Experts and layers that are alike as a whole are told as such.
    """
    held = [values for values in probes.tensors.values() if is_compared(values, probes, thresholds, tied=tied)]
    keys = [_key(values) for values in held]
    sets: dict[object, list[TensorValues]] = {}
    if len(set(keys)) < len(keys):
        often = Counter(keys)
        for key, values in zip(keys, held, strict=True):
            if key is not None and often[key] > 1:
                sets.setdefault(key, []).append(values)
    several = list(sets.values())
    return Equal(_untold(several, probes), _strips(held, several, probes))


def is_compared(values: TensorValues, probes: Probes, thresholds: Thresholds, *, tied: bool) -> bool:
    """Whether a tensor's bytes are its own: it is expected, holds something, and is nobody's copy by declaration."""
    if values.role is None or values.role == "table" or values.elements * values.packing < thresholds.equal_values:
        return False
    if not values.read or values.constant or values.zeros == values.read:
        return False
    if values.goes_with_codes and (values.elements < SCALES or values.scales is None or values.scales.uneven < SCALES):
        return False
    return values.name not in probes.copies and not (tied and values.name == probes.naming.head)


def _key(values: TensorValues) -> object:
    """What equal bytes have in common; None where nothing tells them."""
    if values.xxh3 is not None:
        return values.xxh3
    if not values.whole or not values.bands or 0 in _numbers(values.bands):
        return None
    return values.dtype, values.shape, values.bands


def _numbers(bands: bytes) -> "memoryview[int]":
    """The number of each strip."""
    return memoryview(bands).cast("Q")


def _untold(several: Sequence[Sequence[TensorValues]], probes: Probes) -> list[Sequence[TensorValues]]:
    """The sets that are equal for another reason than that their experts or layers are, as a whole."""
    if not several:
        return []
    experts, layers = _whole_experts(probes), _whole_layers(probes)
    return [each for each in several if not _is_told(each, experts, layers, probes)]


def _is_told(
    values: Iterable[TensorValues], experts: dict[tuple[int, int], int], layers: dict[int, int], probes: Probes
) -> bool:
    """Whether tensors are equal because their experts or layers are."""
    found = set()
    for each in values:
        name = probes.names[each.name]
        if name.layer is not None and name.expert is not None and (name.layer, name.expert) in experts:
            found.add(("expert", experts[name.layer, name.expert], name.kind))
        elif name.layer is not None and name.layer in layers:
            found.add(("layer", layers[name.layer], name.suffix))
        else:
            return False
    return len(found) == 1


def _whole_experts(probes: Probes) -> dict[tuple[int, int], int]:
    """Routed experts that are copies of each other, with the number of their set."""
    return {key: number for number, keys in enumerate(probes.equal_experts) for key in keys}


def _whole_layers(probes: Probes) -> dict[int, int]:
    """The same of layers."""
    return {key: number for number, keys in enumerate(probes.equal_layers) for key in keys}


def _strips(
    held: Sequence[TensorValues], several: Sequence[Sequence[TensorValues]], probes: Probes
) -> list[list[Strip]]:
    """Sets of equal strips. Of tensors that are equal as a whole only the first takes part."""
    later = {values.name for each in several for values in each[1:]}
    matrices = [
        values
        for values in held
        if values.bands and len(values.shape) > 1 and values.name not in later and not values.goes_with_codes
    ]
    bands = [values.bands for values in matrices]
    numbers = _numbers(b"".join(bands)).tolist()
    told = list(filter(None, numbers))
    if len(set(told)) == len(told):
        return []
    often = {number for number, count in Counter(told).items() if count > 1}
    ends = list(accumulate(len(each) // _WIDTH for each in bands))
    sets: dict[int, list[Strip]] = {}
    for place, number in enumerate(numbers):
        if number in often:
            owner = bisect_right(ends, place)
            of = len(bands[owner]) // _WIDTH
            sets.setdefault(number, []).append(Strip(matrices[owner], place - ends[owner] + of, of))
    return [each for each in sets.values() if not _is_vocabulary_alone(each, probes)]


def _is_vocabulary_alone(strips: Sequence[Strip], probes: Probes) -> bool:
    """Rows of one vocabulary may be alike: those of tokens that nobody uses."""
    names = {strip.values.name for strip in strips}
    return len(names) == 1 and probes.naming.is_vocabulary(next(iter(names)))
