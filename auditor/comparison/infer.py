"""Finds config fields that the tensors contradict with one voice.

Where the config and the tensors disagree, each field is solved for the value that the tensors show; a field counts as
contradicted only when the corrected config makes nearly all disagreements vanish.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pydantic import ValidationError

from auditor.comparison.match import match
from auditor.comparison.records import Correction, Match
from auditor.families import Family
from auditor.families.expectations import Expectations, Row
from auditor.inventory.facts import Inventory
from auditor_schemas.config import ModelConfig
from auditor_schemas.policy import Limits

_BLOCK = "quantization_config.weight_block_size"
_SIDES = tuple(1 << power for power in range(13))
_EVIDENCE = 4_000  # misshapen tensors that are asked for a value; more only repeat each other
_REMAINING = 0.1  # share of disagreements that may stay for a correction to count
_CANDIDATES = 12
_BUDGET = 6_000_000  # tensors looked at in all trials: a hostile config must not buy minutes


def infer(
    inventory: Inventory,
    config: ModelConfig,
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
        best: tuple[int, str, Any, ModelConfig, Match] | None = None
        for field, value in islice(_candidates(inventory, config, family, found, elsewhere), _CANDIDATES):
            changed = _change(config, family, field, value, limits)
            if changed is None:
                continue
            left -= changed.tensors + inventory.stored
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


def _settle(before: ModelConfig, after: ModelConfig) -> tuple[str, ...]:
    """The fields that contradict another one in `before` alone."""
    ruled_out = [{field for field, _, _ in config.contradictions()} for config in (before, after)]
    return tuple(sorted(ruled_out[0] - ruled_out[1]))


def _names(found: Match) -> set[str]:
    return set().union(found.missing, found.unexpected, found.misshapen, found.mistyped)


def _candidates(
    inventory: Inventory, config: ModelConfig, family: Family, found: Match, elsewhere: frozenset[str]
) -> Iterator[tuple[str, Any]]:
    """Values that some tensor shows, the most frequent first; then what names show."""
    yield from _block(inventory, config, family.expectations(config), found)
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
        yield from _shown_by_numbers(inventory, config, family, elsewhere)
    if found.unexpected:
        yield from family.shown(inventory.tensors, config, list(found.unexpected))


def _shown_by_numbers(
    inventory: Inventory, config: ModelConfig, family: Family, elsewhere: frozenset[str]
) -> Iterator[tuple[str, Any]]:
    """How many experts and layers there are, by the numbers in names, where the family has a field that says so."""
    naming = family.expectations(config).naming
    names = [name for name in inventory.tensors if name not in elsewhere]
    layers = {layer for name in names if (layer := naming.layer_of(name)) is not None}
    # The main model ends where MTP modules begin; a declared module that was dropped shortens nothing.
    mtp = {layer for name in names if name.endswith(naming.marks) and (layer := naming.layer_of(name)) is not None}
    experts = {expert for name in names if (expert := naming.expert_of(name)) is not None}
    dense = [name for name in names if naming.kind_of(name) == family.dense_mark]
    for field, value in (
        (family.experts_field, max(experts, default=-1) + 1),
        ("num_hidden_layers", min(mtp) if mtp else max(layers, default=-1) + 1),
        ("first_k_dense_replace", len(dense)),
    ):
        if getattr(config, field, None) not in (None, value) and value >= 0:
            yield field, value


def _slopes(config: ModelConfig, family: Family) -> dict[tuple[str, int], list[tuple[str, int]]]:
    """How each dimension grows with each field: every dimension is linear in each field alone."""
    base = _rows(family.expectations(config))
    slopes: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for field in family.solved:
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


def _block(
    inventory: Inventory, config: ModelConfig, expectations: Expectations, found: Match
) -> Iterator[tuple[str, Any]]:
    """The block of which most grids that are not as declared have one scale each."""
    declared = config.quantization_config.weight_block_size if config.quantization_config is not None else None
    if declared is None:
        return
    block = list(declared)
    grids = [
        (held.shape, inventory.tensors[name].shape)
        for name, row in islice(found.misshapen.items(), _EVIDENCE)
        if row.role == "scale"
        and (codes := expectations.codes_of(name)) is not None
        and (held := inventory.tensors.get(codes)) is not None
    ]
    for axis, side_declared in enumerate(declared):
        sides = Counter[int]()
        for weight, grid in grids:
            # One scale for a whole axis fits every block that is large enough.
            if len(weight) == len(grid) == 2 and 1 < grid[axis] <= weight[axis]:
                sides.update(side for side in _SIDES if -(-weight[axis] // side) == grid[axis])
        if sides:
            block[axis] = max(sides, key=lambda side: (sides[side], side == side_declared, side == 128, -side))
    if block != list(declared):
        yield _BLOCK, block


def _declared(config: ModelConfig, field: str) -> Any:
    if field == _BLOCK:
        assert config.quantization_config is not None
        return list(config.quantization_config.weight_block_size or ())
    value: Any = getattr(config, field)
    return value


def _changes(config: ModelConfig, field: str, value: Any) -> dict[str, object]:
    """The fields of a config as they are with one of them changed."""
    fields = config.model_dump()
    if field == _BLOCK:
        return {**fields, "quantization_config": {**fields["quantization_config"], "weight_block_size": value}}
    return {**fields, field: value}


def _change(config: ModelConfig, family: Family, field: str, value: Any, limits: Limits) -> ModelConfig | None:
    """The config with one field changed, or None where it would not be valid or within the limits."""
    try:
        changed = family.config.model_validate(_changes(config, field, value)).under(config.export)
    except ValidationError:
        return None
    if changed.layer_count > limits.layers or changed.tensors > limits.expected_tensors:
        return None
    return changed
