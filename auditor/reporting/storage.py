"""Where a checkpoint's bytes are: by component and dtype, by shard, and which weights lie apart from their scales."""

from itertools import chain

from auditor.comparison.count import COMPONENTS, mtp_census
from auditor.comparison.records import Census
from auditor.families.expectations import Expectations, component_of
from auditor.families.naming import Naming
from auditor.families.scaling import is_scale
from auditor.format.dtypes import FP8, packed_bytes
from auditor.format.entries import elements
from auditor.inventory.facts import Inventory
from auditor.patterns import patterns
from auditor_schemas.inventory import ComponentBytes, DistantScales, ShardSummary, Storage

UNCLASSIFIED = "unclassified"


def storage(inventory: Inventory, expectations: Expectations | None, census: Census) -> Storage:
    """The inventory's bytes in sums. A tensor that the config does not imply is of no known component."""
    return Storage(
        components=_components(inventory, expectations, census),
        shards=tuple(
            ShardSummary(file=each.path, bytes=each.size, header_bytes=each.header_bytes, tensors=len(each.tensors))
            for each in inventory.parts
        ),
        distant_scales=_distant_scales(inventory, expectations),
    )


def _components(inventory: Inventory, expectations: Expectations | None, census: Census) -> tuple[ComponentBytes, ...]:
    rows = expectations.layers_of if expectations is not None else {}
    weights = {row.suffix: row.component for row in rows if row.quantised}
    owners = {row.suffix: weights[row.codes] for row in rows if row.codes is not None}
    of_mtp = mtp_census(inventory, expectations, census) if expectations is not None else {}
    tensors: dict[tuple[str, str], int] = {}
    sums: dict[tuple[str, str], int] = {}
    for kind, count in census.counts.items():
        row, dtype, shape = kind
        name = UNCLASSIFIED if row is None else owners.get(row.suffix, row.component)
        beside = of_mtp.get(kind, 0)
        for mtp, part in ((False, count - beside), (True, beside)):
            if not part:
                continue
            key = (name if row is None else component_of(name, mtp=mtp), dtype)
            tensors[key] = tensors.get(key, 0) + part
            sums[key] = sums.get(key, 0) + part * packed_bytes(dtype, elements(shape))
    order = {name: position for position, name in enumerate((*COMPONENTS, UNCLASSIFIED))}
    return tuple(
        ComponentBytes(component=component, dtype=dtype, tensors=tensors[component, dtype], bytes=size)
        for (component, dtype), size in sorted(
            sums.items(), key=lambda each: (order.get(each[0][0], len(order)), -each[1], each[0])
        )
    )


def _distant_scales(inventory: Inventory, expectations: Expectations | None) -> tuple[DistantScales, ...]:
    """FP8 weights whose scales lie in another shard."""
    naming = Naming() if expectations is None else expectations.naming
    apart: dict[tuple[str, str], list[str]] = {}
    holders: dict[str, str] | None = None  # scales by shard, made where the first weight lies apart from its own
    for shard in inventory.parts:
        held = set(chain.from_iterable(shard.kinds.values()))
        weights = chain.from_iterable(names for (dtype, _), names in shard.kinds.items() if dtype == FP8)
        for name in weights:
            if naming.scale(name) in held or naming.weight(name) is not None or is_scale(name):
                continue
            if holders is None:
                holders = {
                    each: part.path
                    for part in inventory.parts
                    for each in chain.from_iterable(part.kinds.values())
                    if is_scale(each)
                }
            holder = holders.get(naming.scale(name))
            if holder is not None:
                apart.setdefault((shard.path, holder), []).append(name)
    return tuple(
        DistantScales(weight_file=weight, scale_file=scale, count=len(names), weights=patterns(names))
        for (weight, scale), names in sorted(apart.items())
    )
