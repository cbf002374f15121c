"""Tensors by what they hold: copies, experts and layers that are alike, and those of zeros."""

from collections import Counter
from collections.abc import Iterator

from auditor.content.probes import Probes, ScaleValues, TensorValues, weight_of
from auditor.families.conventions import CERTAIN_COMPANIONS, split
from auditor.families.naming import Naming
from auditor_schemas.config import ModelConfig

# Blocks or scales that all have in common what chance would have given to half of them: no chance any more.
ENOUGH = 16
CORRECTION_BIAS = ".e_score_correction_bias"
# The largest scale that a quantiser gives a block of zeros: 1e-4 / 240, rounded up to a power of two.
LARGEST_CLAMP = 2.0**-21


def may_be_zero(values: TensorValues) -> bool:
    """Whether a tensor of zeros is sound: biases begin as zeros."""
    return values.role in ("bias", "router_bias") or values.name.endswith("bias")


def is_correction_bias(values: TensorValues) -> bool:
    """Whether a tensor corrects a router's choice, as the config implies it or by its published name."""
    return values.role == "router_bias" or values.name.endswith(CORRECTION_BIAS)


def entirely_zero(values: TensorValues, naming: Naming) -> bool:
    """Whether everything read of a tensor is zero. Of a vocabulary matrix one strip says nothing: it may be padding."""
    if not values.read or values.zeros != values.read or goes_with_codes(values):
        return False
    return values.whole or not naming.is_vocabulary(values.name) or len(values.rows) > 1


def goes_with_codes(values: TensorValues) -> bool:
    """Whether a tensor goes with a weight's codes, as expected or by its name: scales, an offset, an order, a shape."""
    return values.role == "scale" or values.scales is not None or split(values.name)[1] in CERTAIN_COMPANIONS


def copies(probes: Probes) -> Iterator[tuple[TensorValues, TensorValues]]:
    """MTP modules' copies of vocabulary matrices with their originals, where bytes of both can be compared."""
    for name, values in probes.tensors.items():
        prefix = probes.naming.prefix_in(name)
        if not prefix:
            continue
        original = probes.tensors.get(probes.naming.copies.get(name[len(prefix) :], ""))
        if original is not None and differing(values, original) is not None:
            yield values, original


def differing(one: TensorValues, other: TensorValues) -> tuple[int, int] | None:
    """How many of how many comparable byte ranges differ; None where nothing is comparable."""
    if one.xxh3 is not None and other.xxh3 is not None:
        return int(one.xxh3 != other.xxh3), 1
    strips = dict(zip(one.rows, one.strips, strict=False))
    same = [strips[rows] == strip for rows, strip in zip(other.rows, other.strips, strict=False) if rows in strips]
    return (same.count(False), len(same)) if same else None


def tied_head(probes: Probes, config: ModelConfig) -> tuple[TensorValues, TensorValues] | None:
    """A stored head and the embedding that config.json ties it to, where bytes of both can be compared."""
    embedding, head = probes.tensors.get(probes.naming.embedding), probes.tensors.get(probes.naming.head)
    if not config.tie_word_embeddings or embedding is None or head is None:
        return None
    return None if differing(head, embedding) is None else (head, embedding)


def by_expert(probes: Probes) -> dict[tuple[int, int], dict[str, TensorValues]]:
    """Routed experts by layer and number, each with its tensors by their kind."""
    naming = probes.naming
    found: dict[tuple[int, int], dict[str, TensorValues]] = {}
    for name, values in probes.tensors.items():
        expert, layer = naming.expert_of(name), naming.layer_of(name)
        if expert is not None and layer is not None:
            found.setdefault((layer, expert), {})[naming.kind_of(name)] = values
    return found


def by_layer(probes: Probes) -> dict[int, dict[str, TensorValues]]:
    """The weight matrices of each decoder layer by what follows the layer's number; what only MTP has is left out."""
    naming = probes.naming
    found: dict[int, dict[str, TensorValues]] = {}
    for name, values in probes.tensors.items():
        layer = naming.layer_of(name)
        if layer is None or goes_with_codes(values) or len(values.shape) < 2:
            continue
        suffix = name[len(naming.prefix_in(name)) :]
        if not f".{suffix}".endswith(naming.marks) and suffix not in naming.copies:
            found.setdefault(layer, {})[suffix] = values
    return found


def alike(groups: dict[tuple[int, ...], dict[str, TensorValues]]) -> list[list[tuple[int, ...]]]:
    """The groups of tensors whose bytes are all equal, two or more of a kind; those not digested are left out."""
    found: dict[tuple[tuple[str, str], ...], list[tuple[int, ...]]] = {}
    for key, members in groups.items():
        digests = tuple(sorted((suffix, values.xxh3) for suffix, values in members.items() if values.xxh3 is not None))
        if digests and len(digests) == len(members):
            found.setdefault(digests, []).append(key)
    return [keys for keys in found.values() if len(keys) > 1]


def zeroed_experts(probes: Probes) -> dict[tuple[int, int], tuple[TensorValues, ...]]:
    """Routed experts, by layer and number, that were quantised from zeros, as codes and scales read say.

    None of a layer of which they are the half or more: a layer is not pruned to nothing.
    """
    found: dict[tuple[int, int], tuple[TensorValues, ...]] = {}
    experts = by_expert(probes)
    for key, members in experts.items():
        weights = tuple(values for values in members.values() if not goes_with_codes(values))
        scales = [each.scales for each in members.values() if each.scales is not None and each.scales.kind != "input"]
        scaled = {weight_of(each) for each in members.values() if each.scales is not None}
        if not weights or not scaled.issuperset(values.name for values in weights):
            continue
        if all(entirely_zero(values, probes.naming) for values in weights) and all(map(_of_zeros, scales)):
            found[key] = weights
    sizes, zeros = (Counter(layer for layer, _ in each) for each in (experts, found))
    return {key: weights for key, weights in found.items() if 2 * zeros[key[0]] < sizes[key[0]]}


def _of_zeros(scales: ScaleValues) -> bool:
    """Whether scales are what a quantiser gives blocks of zeros: its clamp, or 1; in groups of 4 bits any."""
    positive = sum(scales.exponents.values()) == scales.values and scales.maximum is not None
    if scales.kind != "block":
        return positive
    return positive and ((scales.maximum or 0) <= LARGEST_CLAMP or scales.minimum == scales.maximum == 1)


def within_240(probes: Probes) -> int:
    """Of blocks whose codes have no more than 240, the largest value of E4M3FNUZ, throughout: how many reach it.

    0 where a block exceeds it, and where too few reach it to be a range. In E4M3 240 is 0x77, and 0x6E is 120, which
    is where a scale that is rounded up to a power of two leaves the largest code at the least.
    """
    largest: Counter[int] = Counter()
    for values in probes.weights():
        if values.blocks is not None:
            largest.update(values.blocks.largest)
    reach = sum(count for code, count in largest.items() if 0x6E <= code <= 0x77)
    filled = sum(count for code, count in largest.items() if 0 < code < 0x7F)
    exceed = any(0x77 < code < 0x7F for code in largest)
    return 0 if exceed or reach < ENOUGH or 4 * reach < filled else reach
