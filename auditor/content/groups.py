"""Tensors read, by routed expert and by layer, and which of these hold the same."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

from auditor.families.naming import Name, Naming


class Digested(Protocol):
    """What is asked of a tensor that was read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def xxh3(self) -> str | None:
        """The digest of all its bytes, where one was made."""

    @property
    def goes_with_codes(self) -> bool:
        """Whether it goes with a weight's codes."""


Key = TypeVar("Key")
Values = TypeVar("Values", bound=Digested)


class Groups(NamedTuple, Generic[Values]):
    """Routed experts by layer and number, the same without what goes with codes, and the matrices of each layer."""

    experts: dict[tuple[int, int], dict[str, Values]]
    expert_weights: dict[tuple[int, int], dict[str, Values]]
    layers: dict[int, dict[str, Values]]


def grouped(tensors: Iterable[Values], names: Iterable[Name], naming: Naming) -> Groups[Values]:
    """The groups of tensors with these names, each with its tensors by their kind, or by what follows the layer."""
    found: Groups[Values] = Groups({}, {}, {})
    experts, weights, layers = found
    key, of_expert, weights_of_expert = (-1, -1), {}, {}  # of the expert before: its tensors stand together
    for values, name in zip(tensors, names, strict=True):
        layer, expert, beside = name.layer, name.expert, values.goes_with_codes
        if layer is None:
            continue
        if expert is not None:
            if key != (layer, expert):
                key = layer, expert
                of_expert, weights_of_expert = experts.setdefault(key, {}), weights.setdefault(key, {})
            of_expert[name.kind] = values
            if not beside:
                weights_of_expert[name.kind] = values
        if beside or len(values.shape) < 2 or f".{name.suffix}".endswith(naming.marks):
            continue
        if name.suffix not in naming.copies:
            layers.setdefault(layer, {})[name.suffix] = values
    return found


def equal(groups: Mapping[Key, Mapping[str, Values]]) -> list[list[Key]]:
    """The groups of tensors whose bytes are all equal, two or more of a kind; those not digested are left out."""
    every = {key: [values.xxh3 or "" for values in members.values()] for key, members in groups.items()}
    whole = {key: digests for key, digests in every.items() if digests and all(digests)}
    often = Counter(map(min, whole.values()))
    found: dict[frozenset[tuple[str, str]], list[Key]] = {}
    for key, digests in whole.items():
        if often[min(digests)] > 1:
            found.setdefault(frozenset(zip(groups[key], digests, strict=True)), []).append(key)
    return [keys for keys in found.values() if len(keys) > 1]
