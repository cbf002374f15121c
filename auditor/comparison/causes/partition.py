"""A part of a model that was spread over ranks: a share of each split dimension, of the experts, or of the layers."""

from collections import Counter
from collections.abc import Sequence

from auditor.comparison.records import ExpertRank, Match, Stage, TensorRank
from auditor.families.expectations import Expectations, Row
from auditor.inventory.facts import Inventory

_MAJORITY = 0.9

# What no one config field decides together: where two of these have the same share, no field explains it.
_DIMENSIONS = {
    "attention": "heads", "dense_mlp": "intermediate", "routed_experts": "experts", "shared_experts": "experts",
    "embedding": "vocabulary", "head": "vocabulary", "mtp_embedding": "vocabulary", "mtp_head": "vocabulary",
}  # fmt: skip


def tensor_rank(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[TensorRank, ...]:
    """One tensor-parallel rank: what tensor parallelism splits has 1/N of its size, each component whole or split."""
    tensors = inventory.tensors
    votes: Counter[tuple[int, str]] = Counter()
    for name, row in match.misshapen.items():
        if row.split is not None and row.component in _DIMENSIONS:
            votes[_share(tensors[name].shape, row.shape, row.split), row.component] += 1
    of = max((each for each in votes if each[0] > 1), key=lambda each: (votes[each], each), default=(0, ""))[0]
    if not of:
        return ()
    there = Counter(
        row.component for name, row in expectations.names.items() if row.split is not None and name in tensors
    )
    split = {part for (share, part), count in votes.items() if share == of and count >= _MAJORITY * there[part]}
    if len({_DIMENSIONS[part] for part in split}) < 2:
        return ()
    weights = tuple(
        name
        for name, row in match.misshapen.items()
        if row.role != "scale" and any(_share(tensors[name].shape, row.shape, axis) == of for axis in range(2))
    )
    scales = tuple(name for each in weights for name in expectations.beside(each) if name in match.misshapen)
    example = weights[0]
    return (
        TensorRank(
            (*weights, *scales), of, len(weights), example, tensors[example].shape, match.misshapen[example].shape
        ),
    )


def _share(shape: Sequence[int], needed: Sequence[int], axis: int) -> int:
    """The N of which a shape has 1/N along an axis and is whole along the others; 0 where it is no such share."""
    if len(shape) != len(needed) or axis >= len(shape) or not shape[axis]:
        return 0
    others = all(a == b for other, (a, b) in enumerate(zip(shape, needed, strict=True)) if other != axis)
    ranks, rest = divmod(needed[axis], shape[axis])
    return ranks if others and not rest and ranks > 1 else 0


def expert_rank(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[ExpertRank, ...]:
    """One expert-parallel rank: all layers hold the same experts, 1/N of them side by side, and the whole router."""
    every = {layer: rows[0].experts for layer, rows in _expert_rows(expectations).items()}
    parts = {layer: len(rows) for layer, rows in _expert_rows(expectations).items()}
    gone: dict[int, Counter[int]] = {}
    for name in match.missing:
        layer, expert = expectations.naming.layer_of(name), expectations.naming.expert_of(name)
        if layer is not None and expert is not None and layer not in match.missing_layers:
            gone.setdefault(layer, Counter())[expert] += 1
    asked = [layer for layer in every if layer not in match.missing_layers]
    lacking = {
        frozenset(expert for expert, count in gone.get(layer, Counter()).items() if count == parts[layer])
        for layer in asked
    }
    experts = {every[layer] for layer in asked}
    routed = any(row.module == "router" for row in match.misshapen.values())
    if routed or len(lacking) != 1 or len(experts) != 1:
        return ()
    whole, absent = experts.pop(), lacking.pop()
    kept = [expert for expert in range(whole) if expert not in absent]
    if not absent or not kept or whole % len(kept) or kept[0] % len(kept) or kept[-1] - kept[0] >= len(kept):
        return ()
    names = tuple(name for name in match.missing if expectations.naming.expert_of(name) in absent)
    return (ExpertRank(names, kept[0], kept[-1], whole),)


def _expert_rows(expectations: Expectations) -> dict[int, list[Row]]:
    """The rows of routed experts in each layer that has them."""
    found = {}
    for template in expectations.templates:
        rows = [row for row in template.rows if row.experts]
        if rows:
            found.update(dict.fromkeys(template.layers, rows))
    return found


def stage(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[Stage, ...]:
    """One pipeline stage: layers side by side, the embedding with the first and final norm and head with the last."""
    main = sorted({layer for each in expectations.templates for layer in each.layers} - {*expectations.mtp_layers})
    kept = [layer for layer in main if layer not in match.missing_layers]
    if not kept or len(kept) == len(main) or kept[-1] - kept[0] >= len(kept):
        return ()
    first, last = kept[0] == main[0], kept[-1] == main[-1]
    ends = {row.suffix: last for row in expectations.top} | {
        row.suffix: first for row in expectations.top if row.component == "embedding"
    }
    if any((name in match.missing) == there for name, there in ends.items()):
        return ()
    names = [name for layer, held in match.missing_layers.items() if layer not in kept for name in held]
    return (Stage((*names, *(name for name in ends if name in match.missing)), kept[0], kept[-1], len(main)),)
