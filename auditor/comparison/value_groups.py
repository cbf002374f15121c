"""Tensors by what they hold: copies, experts and layers that are alike, and those of zeros."""

from collections import Counter
from collections.abc import Iterator

from auditor.content.probes import Probes
from auditor.content.values import ScaleValues, TensorValues, weight_of
from auditor.families.naming import Naming
from auditor_schemas.config import ModelConfig

# Blocks or scales that all have in common what chance would have given to half of them: no chance any more.
ENOUGH = 16
# The largest scale that a quantiser gives a block of zeros: 1e-4 / 240, rounded up to a power of two.
LARGEST_CLAMP = 2.0**-21


def may_be_zero(values: TensorValues) -> bool:
    """Whether a tensor of zeros is sound: biases begin as zeros."""
    return values.role in ("bias", "router_bias") or values.name.endswith("bias")


def entirely_zero(values: TensorValues, naming: Naming) -> bool:
    """Whether everything read of a tensor is zero. Of a vocabulary matrix one strip says nothing: it may be padding."""
    if not values.read or values.zeros != values.read or values.goes_with_codes:
        return False
    return values.whole or not naming.is_vocabulary(values.name) or len(values.rows) > 1


def copies(probes: Probes) -> Iterator[tuple[TensorValues, TensorValues]]:
    """MTP modules' copies of vocabulary matrices with their originals, where bytes of both can be compared."""
    for name, of in probes.copies.items():
        values, original = probes.tensors[name], probes.tensors.get(of)
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


def zeroed_experts(probes: Probes) -> dict[tuple[int, int], tuple[TensorValues, ...]]:
    """Routed experts, by layer and number, that were quantised from zeros, as codes and scales read say.

    None of a layer of which they are the half or more: a layer is not pruned to nothing.
    """
    found: dict[tuple[int, int], tuple[TensorValues, ...]] = {}
    for key, members in probes.experts.items():
        weights = tuple(probes.expert_weights[key].values())
        if not weights or not all(entirely_zero(values, probes.naming) for values in weights):
            continue
        scales = [each.scales for each in members.values() if each.scales is not None and each.scales.kind != "input"]
        scaled = {weight_of(each) for each in members.values() if each.scales is not None}
        if scaled.issuperset(values.name for values in weights) and all(map(_of_zeros, scales)):
            found[key] = weights
    sizes, zeros = (Counter(layer for layer, _ in each) for each in (probes.experts, found))
    return {key: weights for key, weights in found.items() if 2 * zeros[key[0]] < sizes[key[0]]}


def _of_zeros(scales: ScaleValues) -> bool:
    """Whether scales are what a quantiser gives blocks of zeros: its clamp, or 1; in groups of 4 bits any."""
    positive = scales.usable == scales.values and scales.maximum is not None
    if scales.kind != "block":
        return positive
    return positive and ((scales.maximum or 0) <= LARGEST_CLAMP or scales.minimum == scales.maximum == 1)


def within_240(probes: Probes) -> int:
    """Of blocks whose codes have no more than 240, the largest value of E4M3FNUZ, throughout: how many reach it.

    0 where a block exceeds it, and where too few reach it to be a range. In E4M3 240 is 0x77, and 0x6E is 120, which
    is where a scale that is rounded up to a power of two leaves the largest code at the least.
    """
    largest: dict[int, int] = {}
    for values in probes.weights:
        if values.blocks is not None:
            for code, count in values.blocks.largest.items():
                largest[code] = largest.get(code, 0) + count
    reach = sum(count for code, count in largest.items() if 0x6E <= code <= 0x77)
    filled = sum(count for code, count in largest.items() if 0 < code < 0x7F)
    exceed = any(0x77 < code < 0x7F for code in largest)
    return 0 if exceed or reach < ENOUGH or 4 * reach < filled else reach
