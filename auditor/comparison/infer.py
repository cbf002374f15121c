"""Finds config fields that the tensors contradict with one voice.

Where the config and the tensors disagree, each field is solved for the value that the tensors show; a field counts as
contradicted only when the corrected config makes nearly all disagreements vanish.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from math import gcd
from typing import Any

from pydantic import ValidationError

from auditor.comparison.match import match
from auditor.comparison.records import Correction, Match
from auditor.families import Family
from auditor.families.expectations import Expectations, Row
from auditor.families.scaling import MTP_MARKS, SCALE_SUFFIX
from auditor.inventory.facts import Inventory
from auditor.patterns import expert_of, layer_of
from auditor_schemas.config import DeepseekV3Config
from auditor_schemas.policy import Limits

_SOLVED = (
    "vocab_size", "hidden_size", "num_attention_heads", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim",
    "qk_rope_head_dim", "v_head_dim", "intermediate_size", "moe_intermediate_size", "n_shared_experts",
    "n_routed_experts", "index_n_heads", "index_head_dim",
)  # fmt: skip
_BLOCK = "quantization_config.weight_block_size"
_SIDES = tuple(1 << power for power in range(13))
_EVIDENCE = 4_000  # misshapen tensors that are asked for a value; more only repeat each other
_REMAINING = 0.1  # share of disagreements that may stay for a correction to count
_CANDIDATES = 12
_BUDGET = 6_000_000  # tensors looked at in all trials: a hostile config must not buy minutes


def infer(
    inventory: Inventory,
    config: DeepseekV3Config,
    family: Family,
    found: Match,
    limits: Limits,
    elsewhere: frozenset[str] = frozenset(),
) -> tuple[Correction, ...]:
    """The contradicted fields, each with the tensors it explains. Several at once are found one after another.

    `elsewhere` are tensors that another cause accounts for: they are neither in `found` nor asked.
    """
    corrections: list[Correction] = []
    left = _BUDGET
    while found.faults > 1 and len(corrections) < 3:
        best: tuple[int, str, Any, DeepseekV3Config, Match] | None = None
        for field, value in islice(_candidates(inventory, config, family, found, elsewhere), _CANDIDATES):
            changed = _change(config, family, field, value, limits)
            if changed is None:
                continue
            left -= _tensors(changed) + inventory.stored
            if left < 0 and best is not None:
                break
            trial = match(inventory, family.expectations(changed)).without(elsewhere)
            if trial.faults < found.faults and (best is None or trial.faults < best[0]):
                best = (trial.faults, field, value, changed, trial)
                if trial.faults <= _REMAINING * found.faults:
                    break
        if best is None:
            break
        faults, field, value, changed, trial = best
        explained = _names(found) - _names(trial)
        # A correction that leaves most disagreements must at least settle its own field's tensors whole.
        if faults > _REMAINING * found.faults and (len(explained) < 8 or _names(trial) - _names(found)):
            break
        corrections.append(
            Correction(field, _declared(config, field), value, tuple(sorted(explained)), _settle(config, changed))
        )
        config, found = changed, trial
        if left < 0:
            break
    return tuple(corrections)


def _settle(before: DeepseekV3Config, after: DeepseekV3Config) -> tuple[str, ...]:
    """The fields that contradict another one in `before` alone."""
    ruled_out = [{field for field, _, _ in config.contradictions()} for config in (before, after)]
    return tuple(sorted(ruled_out[0] - ruled_out[1]))


def _names(found: Match) -> set[str]:
    return set().union(found.missing, found.unexpected, found.misshapen, found.mistyped)


def _candidates(
    inventory: Inventory, config: DeepseekV3Config, family: Family, found: Match, elsewhere: frozenset[str]
) -> Iterator[tuple[str, Any]]:
    """Values that some tensor shows, the most frequent first; then what names show."""
    yield from _block(inventory, config, found)
    votes: Counter[tuple[str, int]] = Counter()
    slopes = _slopes(config, family)
    for name, row in islice(found.misshapen.items(), _EVIDENCE):
        actual = inventory.tensors[name].shape
        if len(actual) != len(row.shape):
            continue
        for axis, (shown, needed) in enumerate(zip(actual, row.shape, strict=True)):
            for field, slope in slopes.get((row.suffix, axis), ()):
                steps, rest = divmod(shown - needed, slope)
                if steps and not rest:
                    votes[field, getattr(config, field) + steps] += 1
    yield from (candidate for candidate, _ in votes.most_common(_CANDIDATES))
    if found.missing or found.unexpected:
        names = [name for name in inventory.tensors if name not in elsewhere]
        layers = {layer for name in names if (layer := layer_of(name)) is not None}
        # The main model ends where MTP modules begin; a declared module that was dropped shortens nothing.
        mtp = {layer for name in names if name.endswith(MTP_MARKS) and (layer := layer_of(name)) is not None}
        experts = {expert for name in names if (expert := expert_of(name)) is not None}
        dense = [layer_of(name) for name in names if name.endswith(".mlp.gate_proj.weight")]
        shown_layers = min(mtp) if mtp else max(layers, default=-1) + 1
        for field, value in (
            ("n_routed_experts", max(experts, default=-1) + 1),
            ("num_hidden_layers", shown_layers),
            ("first_k_dense_replace", len(dense)),
        ):
            if getattr(config, field) not in (None, value) and value >= 0:
                yield field, value
    if found.unexpected:
        yield from _shown_by_presence(inventory, config, list(found.unexpected))


def _shown_by_presence(
    inventory: Inventory, config: DeepseekV3Config, names: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """Fields that decide which tensors there are, where tensors are there that another value gives.

    What is absent shows nothing: a tool that drops the correction biases does not say that there should be none.
    """
    first = {suffix: next((name for name in names if name.endswith(suffix)), None) for suffix in _TELLING}
    query, low_rank, shared, bias, router, added = first.values()
    if query is not None and config.q_lora_rank is not None:
        yield "q_lora_rank", None
    if low_rank is not None and config.q_lora_rank is None and inventory.tensors[low_rank].shape:
        yield "q_lora_rank", inventory.tensors[low_rank].shape[0]
    if shared is not None and config.n_shared_experts is None and config.moe_intermediate_size:
        yield "n_shared_experts", sum(inventory.tensors[shared].shape[:1]) // config.moe_intermediate_size
    if bias is not None and config.topk_method != "noaux_tc":
        yield "topk_method", "noaux_tc"
    if added is not None and not config.attention_bias:
        yield "attention_bias", True
    if router is not None or config.moe_layer_freq > 1 or any(name.endswith(".mlp.gate_proj.weight") for name in names):
        routed = {layer_of(name) or 0 for name in inventory.tensors if name.endswith(".mlp.gate.weight")}
        frequency = gcd(*routed)
        if frequency and frequency != config.moe_layer_freq:
            yield "moe_layer_freq", frequency


# Of each kind of tensor that one field decides, how its name ends.
_TELLING = (
    ".self_attn.q_proj.weight", ".self_attn.q_a_proj.weight", ".mlp.shared_experts.gate_proj.weight",
    ".mlp.gate.e_score_correction_bias", ".mlp.gate.weight", ".self_attn.o_proj.bias",
)  # fmt: skip


def _slopes(config: DeepseekV3Config, family: Family) -> dict[tuple[str, int], list[tuple[str, int]]]:
    """How each dimension grows with each field: every dimension is linear in each field alone."""
    base = _rows(family.expectations(config))
    slopes: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for field in _SOLVED:
        value = getattr(config, field, None)
        if value is None:
            continue
        grown = _rows(family.expectations(config.model_copy(update={field: value + 1})))
        for suffix, row in base.items():
            other = grown.get(suffix)
            # A scale grid grows by steps, not linearly: the weight beside it is the witness.
            if other is None or row.role == "scale":
                continue
            for axis, (before, after) in enumerate(zip(row.shape, other.shape, strict=True)):
                if after != before:
                    slopes.setdefault((suffix, axis), []).append((field, after - before))
    return slopes


def _rows(expectations: Expectations) -> dict[str, Row]:
    return {row.suffix: row for row in (*expectations.top, *(r for t in expectations.templates for r in t.rows))}


def _block(inventory: Inventory, config: DeepseekV3Config, found: Match) -> Iterator[tuple[str, Any]]:
    """The block of which most grids that are not as declared have one scale each."""
    quantization = config.quantization_config
    if quantization is None:
        return
    block = list(quantization.weight_block_size)
    grids = [
        (held.shape, inventory.tensors[name].shape)
        for name, row in islice(found.misshapen.items(), _EVIDENCE)
        if row.role == "scale" and (held := inventory.tensors.get(name.removesuffix(SCALE_SUFFIX))) is not None
    ]
    for axis, declared in enumerate(quantization.weight_block_size):
        sides = Counter[int]()
        for weight, grid in grids:
            # One scale for a whole axis fits every block that is large enough.
            if len(weight) == len(grid) == 2 and 1 < grid[axis] <= weight[axis]:
                sides.update(side for side in _SIDES if -(-weight[axis] // side) == grid[axis])
        if sides:
            block[axis] = max(sides, key=lambda side: (sides[side], side == declared, side == 128, -side))
    if block != list(quantization.weight_block_size):
        yield _BLOCK, block


def _declared(config: DeepseekV3Config, field: str) -> Any:
    if field == _BLOCK:
        assert config.quantization_config is not None
        return list(config.quantization_config.weight_block_size)
    value: Any = getattr(config, field)
    return value


def _changes(config: DeepseekV3Config, field: str, value: Any) -> dict[str, object]:
    """The fields of a config as they are with one of them changed."""
    fields = config.model_dump()
    if field == _BLOCK:
        return {**fields, "quantization_config": {**fields["quantization_config"], "weight_block_size": value}}
    return {**fields, field: value}


def _change(
    config: DeepseekV3Config, family: Family, field: str, value: Any, limits: Limits
) -> DeepseekV3Config | None:
    """The config with one field changed, or None where it would not be valid or within the limits."""
    try:
        changed = family.config.model_validate(_changes(config, field, value))
    except ValidationError:
        return None
    if changed.layer_count > limits.layers or _tensors(changed) > limits.expected_tensors:
        return None
    return changed


def _tensors(config: DeepseekV3Config) -> int:
    """About how many tensors a config demands."""
    return config.layer_count * (6 * (config.n_routed_experts or 0) + 30)
