"""Tensors by what they hold: copies, experts and layers that are alike, and those of zeros."""

from collections import Counter
from collections.abc import Iterable, Iterator

from auditor.content.probes import Probes, ScaleValues, TensorValues
from auditor.patterns import expert_of, is_vocabulary, layer_of
from auditor_schemas.config import ModelConfig

# Blocks or scales that all have in common what chance would have given to half of them: no chance any more.
ENOUGH = 16
# The copies that an MTP module stores, by what follows its layer, and what they are copies of.
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_ORIGINALS = {"embed_tokens.weight": EMBEDDING, "shared_head.head.weight": HEAD}
CORRECTION_BIAS = ".e_score_correction_bias"
# The largest scale that a quantiser gives a block of zeros: 1e-4 / 240, rounded up to a power of two.
LARGEST_CLAMP = 2.0**-21


def may_be_zero(values: TensorValues) -> bool:
    """Whether a tensor of zeros is sound: biases begin as zeros."""
    return values.name.endswith("bias")


def entirely_zero(values: TensorValues) -> bool:
    """Whether everything read of a tensor is zero. Of a vocabulary matrix one strip says nothing: it may be padding."""
    if not values.read or values.zeros != values.read or values.scales is not None:
        return False
    return values.whole or not is_vocabulary(values.name) or len(values.rows) > 1


def copies(probes: Probes) -> Iterator[tuple[TensorValues, TensorValues]]:
    """MTP modules' copies of vocabulary matrices with their originals, where bytes of both can be compared."""
    for name, values in probes.tensors.items():
        layer = layer_of(name)
        if layer is None:
            continue
        original = probes.tensors.get(_ORIGINALS.get(name.removeprefix(f"model.layers.{layer}."), ""))
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
    embedding, head = probes.tensors.get(EMBEDDING), probes.tensors.get(HEAD)
    if not config.tie_word_embeddings or embedding is None or head is None:
        return None
    return None if differing(head, embedding) is None else (head, embedding)


def by_expert(tensors: Iterable[TensorValues]) -> dict[tuple[int, int], dict[str, TensorValues]]:
    """Routed experts by layer and number, each with its tensors by what follows the number."""
    found: dict[tuple[int, int], dict[str, TensorValues]] = {}
    for values in tensors:
        expert, layer = expert_of(values.name), layer_of(values.name)
        if expert is not None and layer is not None:
            suffix = values.name.removeprefix(f"model.layers.{layer}.mlp.experts.{expert}.")
            found.setdefault((layer, expert), {})[suffix] = values
    return found


def by_layer(tensors: Iterable[TensorValues]) -> dict[int, dict[str, TensorValues]]:
    """The weight matrices of each decoder layer by what follows the layer's number; what only MTP has is left out."""
    found: dict[int, dict[str, TensorValues]] = {}
    for values in tensors:
        layer = layer_of(values.name)
        if layer is None or values.scales is not None or len(values.shape) < 2:
            continue
        suffix = values.name.removeprefix(f"model.layers.{layer}.")
        if suffix.startswith(("self_attn.", "mlp.")):
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
    experts = by_expert(probes.tensors.values())
    for key, members in experts.items():
        weights = tuple(values for values in members.values() if values.scales is None)
        scales = [values.scales for values in members.values() if values.scales is not None]
        if weights and len(scales) == len(weights) and all(map(entirely_zero, weights)) and all(map(_of_zeros, scales)):
            found[key] = weights
    sizes, zeros = (Counter(layer for layer, _ in each) for each in (experts, found))
    return {key: weights for key, weights in found.items() if 2 * zeros[key[0]] < sizes[key[0]]}


def _of_zeros(scales: ScaleValues) -> bool:
    """Whether scales are what a quantiser gives blocks of zeros: its clamp, or 1."""
    positive = sum(scales.exponents.values()) == scales.values and scales.maximum is not None
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
