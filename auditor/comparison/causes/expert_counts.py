"""Layers whose router and experts agree on another number of experts than the config has."""

from auditor.comparison.records import ExpertCounts, Match
from auditor.families.expectations import Expectations
from auditor.inventory.facts import Inventory


def expert_counts(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[ExpertCounts, ...]:
    """One cause for all such layers; none where all layers agree, which is for the config's field to answer."""
    naming = expectations.naming
    routed = {
        naming.layer_of(name): inventory.tensors[name].shape for name, row in match.misshapen.items() if _is_router(row)
    }
    if not routed:
        return ()
    every = {
        layer
        for name, row in expectations.names.items()
        if _is_router(row) and (layer := naming.layer_of(name)) is not None
    }
    experts: dict[int | None, set[int]] = {layer: set() for layer in routed}
    for name in inventory.tensors:
        expert = naming.expert_of(name)
        if expert is not None and (layer := naming.layer_of(name)) in experts:
            experts[layer].add(expert)
    counts: dict[int, int] = {}
    for layer, shape in routed.items():
        if layer is not None and shape and experts[layer] == set(range(shape[0])):
            counts[layer] = shape[0]
    if not counts or (len(counts) == len(every) and len(set(counts.values())) == 1):
        return ()
    declared = max(row.experts for row in expectations.layers_of)
    names = [
        name
        for held in (match.missing, match.unexpected, match.misshapen)
        for name in held
        if (layer := naming.layer_of(name)) in counts
        if getattr(expectations.row_of(name), "module", None) == "router"
        or ((expert := naming.expert_of(name)) is not None and expert >= min(counts[layer], declared))
    ]
    return (ExpertCounts(tuple(names), counts, declared, len(every)),)


def _is_router(row: object) -> bool:
    return getattr(row, "component", None) == "router"
