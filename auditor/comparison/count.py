"""Counts parameters by component and by every convention in use, from the config and from the headers.

Each quantity has one home here; sums are sums of names. Scale tensors are never parameters.
"""

from collections import Counter
from collections.abc import Collection, Iterable

from auditor.comparison.match import is_exact
from auditor.comparison.records import Census, Tally
from auditor.families import Family, Published
from auditor.families.expectations import Expectations, Row, component_of, expand
from auditor.format.entries import elements
from auditor.inventory.facts import Inventory
from auditor_schemas.config import ModelConfig
from auditor_schemas.figures import Count, Figure

MAIN = (
    "embedding", "head", "norms", "attention", "indexer", "dense_mlp", "router", "router_bias", "routed_experts",
    "shared_experts",
)  # fmt: skip
MTP_BLOCK = (
    "mtp_attention", "mtp_indexer", "mtp_dense_mlp", "mtp_router", "mtp_router_bias", "mtp_routed_experts",
    "mtp_shared_experts", "mtp_block_norms",
)  # fmt: skip
MTP_EXTRAS = ("mtp_projection", "mtp_norms")
MTP_COPIES = ("mtp_embedding", "mtp_head")
# In the order in which they are shown; a family may have further ones.
COMPONENTS = (*MAIN, *MTP_BLOCK, *MTP_EXTRAS, *MTP_COPIES)

CONVENTIONS: dict[str, str] = {
    "main_total": "both vocabulary matrices and router biases, no MTP, no scales",
    "main_activated": "per token, with embedding and head",
    "main_activated_without_embedding": "per token, with head, without embedding",
    "mtp_unique": "transformer blocks alone",
    "mtp_unique_with_projection": "transformer blocks, eh_proj and MTP norms",
    "mtp_activated": "per token, with shared embedding and head",
    "mtp_activated_with_projection": "per token, with these, eh_proj and MTP norms",
    "stored": "copies included, without scales",
    "stored_with_scales": "copies and scales included",
}


def tally(inventory: Inventory, expectations: Expectations | None, census: Census) -> Tally:
    """Parameters by component, from the config's rows and from the headers, each in its own arithmetic."""
    actual: Counter[str] = Counter()
    expected: Counter[str] = Counter()
    scales = unclassified = expected_scales = 0
    mtp = mtp_census(inventory, expectations, census) if expectations is not None else Counter()
    for kind, count in census.counts.items():
        row, _, shape = kind
        size = elements(shape)
        if row is None:
            unclassified += count * size
        elif row.role == "scale":
            scales += count * size
        else:
            of_mtp = mtp[kind]
            size *= row.packing(kind[1])
            actual[component_of(row.component, mtp=False)] += (count - of_mtp) * size
            actual[component_of(row.component, mtp=True)] += of_mtp * size
    if expectations is None:
        return Tally({}, scales, unclassified)
    mtp_layers = frozenset(expectations.mtp_layers)
    for row, layers in expectations.layers_of.items():
        of_mtp = sum(layer in mtp_layers for layer in layers) * max(1, row.experts)
        if row.role == "scale":
            expected_scales += expectations.multiplicity(row) * elements(row.shape)
        else:
            main = expectations.multiplicity(row) - of_mtp
            expected[component_of(row.component, mtp=False)] += main * row.parameters
            expected[component_of(row.component, mtp=True)] += of_mtp * row.parameters
    components: dict[str, tuple[int | None, int]] = {
        name: (expected[name], actual[name])
        for name in dict.fromkeys((*COMPONENTS, *expected))
        if expected[name] or actual[name]
    }
    return Tally(components, scales, unclassified, expected_scales)


def mtp_census(
    inventory: Inventory, expectations: Expectations, census: Census
) -> "Counter[tuple[Row | None, str, tuple[int, ...]]]":
    """The part of the census that belongs to MTP modules."""
    counts: Counter[tuple[Row | None, str, tuple[int, ...]]] = Counter()
    mtp_layers = frozenset(expectations.mtp_layers)
    prefixes = tuple(map(expectations.naming.prefix, expectations.mtp_layers))
    if not prefixes:
        return counts
    if is_exact(inventory, expectations, census):
        stored = {row: dtype for row, dtype, _ in census.counts}
        for row, layers in expectations.layers_of.items():
            if row not in stored:
                continue  # optional
            counts[row, stored[row], row.shape] = max(1, row.experts) * len(mtp_layers.intersection(layers))
        return counts
    names = {
        prefix + suffix: row
        for template in expectations.templates
        for layer, prefix in zip(expectations.mtp_layers, prefixes, strict=True)
        if layer in template.layers
        for suffix, row in zip(*expand(template.rows), strict=True)
    }
    # An index that agrees says where to look; otherwise a name may be in any shard, and in several.
    where = inventory.index.weight_map if inventory.index is not None and inventory.indexed else {}
    named = {where[name] for name in names if name in where}
    for shard in inventory.parts:
        if named and shard.path not in named:
            continue
        for name in filter(shard.tensors.__contains__, names):
            header = shard.tensors[name]
            counts[names[name], header.dtype, header.shape] += 1
    return counts


def conventions(
    components: dict[str, int], scale_elements: int, config: ModelConfig, apart: Collection[str] = ()
) -> dict[str, int]:
    """Every counting convention, as the sum of its components. Per token a router picks some experts of all.

    `apart` are components that are no part of the main model, such as a tower that turns images into tokens.
    """
    routed = config.routed_experts or 1
    share = config.experts_per_token or 0
    extras = (*MTP_EXTRAS, *MTP_COPIES)
    main = [name for name in components if not name.startswith("mtp_") and name not in apart]
    block = [name for name in components if name.startswith("mtp_") and name not in extras]

    def total(names: Iterable[str]) -> int:
        return sum(components.get(name, 0) for name in names)

    def activated(names: Iterable[str]) -> int:
        # Experts are alike, so this division leaves no remainder for a config that is whole.
        return sum(
            components.get(name, 0) * share // routed if name.endswith("routed_experts") else components.get(name, 0)
            for name in names
        )

    shared = total(("embedding", "head")) if config.mtp_modules else 0
    stored = total(components)
    return {
        "main_total": total(main),
        "main_activated": activated(main),
        "main_activated_without_embedding": activated(main) - components.get("embedding", 0),
        "mtp_unique": total(block),
        "mtp_unique_with_projection": total(block) + total(MTP_EXTRAS),
        "mtp_activated": activated(block) + shared,
        "mtp_activated_with_projection": activated(block) + total(MTP_EXTRAS) + shared,
        "stored": stored,
        "stored_with_scales": stored + scale_elements,
    }


def figures(config: ModelConfig, family: Family, counts: dict[str, int]) -> tuple[Figure, ...]:
    """Each figure with its conventions; beside the published one only where the config is the released one."""
    layout = {"exported_as": None, **family.released}
    released = bool(family.published) and all(getattr(config, field) == value for field, value in layout.items())
    published = [
        each for each in family.published if all(getattr(config, name) == value for name, value in each.of.items())
    ]
    if released and published:
        return tuple(_figure(each, counts) for each in published)
    return tuple(
        Figure(
            name=name,
            published=None,
            source=None,
            counts=tuple(_count(key, counts, None) for key in keys),
            verdict="not_applicable",
        )
        for name, keys in _NAMED.items()
        if config.mtp_modules or not name.startswith("MTP")
    )


_NAMED = {
    "main model, total": ("main_total",),
    "main model, activated per token": ("main_activated", "main_activated_without_embedding"),
    "MTP module, unique parameters": ("mtp_unique", "mtp_unique_with_projection"),
    "MTP module, activated per token": ("mtp_activated", "mtp_activated_with_projection"),
    "everything stored": ("stored_with_scales", "stored"),
}


def _figure(published: Published, counts: dict[str, int]) -> Figure:
    exact = counts[published.convention]
    printed = round(published.billions * 10**published.digits)
    if exact == printed * 10 ** (9 - published.digits):
        verdict = "exact"
    else:
        verdict = "matches_rounded" if _round(exact, published.digits) == printed else "contradicted"
    return Figure(
        name=published.name,
        published=published.text,
        source=published.source,
        counts=tuple(_count(key, counts, published.billions * 1e9) for key in (published.convention, *published.also)),
        verdict=verdict,
        note=published.note,
    )


def _round(count: int, digits: int) -> int:
    """A count in units of 10^-digits billions, half up, in integers."""
    unit: int = 10 ** (9 - digits)
    return (2 * count + unit) // (2 * unit)


def _count(key: str, counts: dict[str, int], published: float | None) -> Count:
    deviation = None if published is None else round(100 * (counts[key] - published) / published, 3)
    return Count(convention=CONVENTIONS[key], parameters=counts[key], deviation_percent=deviation)
