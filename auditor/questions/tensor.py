"""One tensor of a checkpoint: what its config implies, what is there, and where."""

from auditor.errors import SourceError
from auditor.families.expectations import Expectations, Row
from auditor.format.entries import TensorHeader, is_fp8
from auditor.inventory.facts import Inventory
from auditor.opening import open_checkpoint
from auditor.text import listed, nearest, shown, size


def describe(
    source: str, name: str, *, family: str | None = None, revision: str | None = None, cache: bool = True
) -> tuple[str, bool]:
    """One tensor in lines: expected, actual, shard, byte range and scale; and whether it is there as expected."""
    with open_checkpoint(source, family=family, revision=revision, cache=cache) as checkpoint:
        configuration, inventory = checkpoint.configuration(), checkpoint.inventory()
    expected = Expectations((), ())
    if configuration.config is not None and configuration.family is not None:
        expected = configuration.family.expectations(configuration.config)
    rows = expected.names
    row, header = rows.get(name), inventory.tensors.get(name)
    if row is None and header is None:
        near = nearest(name, [*inventory.tensors, *(each for each in rows if each not in inventory.tensors)])
        raise SourceError(f"no tensor {shown(name)} in the checkpoint or implied by its config{near}")
    lines = [shown(name)]
    lines.append(f"  expected  {_expectation(row, bool(rows))}")
    lines.append(f"  actual    {_actual(header)}")
    lines.extend(_places(inventory, name))
    lines.extend(_partner(inventory, expected, name, header))
    sound = row is not None and header is not None and header.shape == row.shape
    sound = sound and row is not None and header is not None and header.dtype in (row.dtype, *row.allowed)
    sound = sound and sum(name in shard.tensors for shard in inventory.parts) == 1
    return "\n".join(lines) + "\n", sound


def _expectation(row: Row | None, derived: bool) -> str:
    if row is None:
        return (
            "nothing: no tensor of this name follows from config.json"
            if derived
            else "unknown: config.json is not usable"
        )
    optional = ", may be absent" if row.optional else ""
    further = f" or {listed(row.allowed)}" if row.allowed else ""
    packed = row.shape_of_weight is not None and row.shape_of_weight != row.shape and row.quantiser is not None
    weight = f", {row.quantiser.name} of {row.shape_of_weight}" if packed and row.quantiser is not None else ""
    return f"{row.dtype}{further} {row.shape}{weight}, {row.component.replace('_', ' ')}{optional}"


def _actual(header: TensorHeader | None) -> str:
    if header is None:
        return "missing"
    begin, end = header.data_offsets
    return f"{header.dtype} {header.shape}, {end - begin:,} bytes ({size(end - begin)})"


def _places(inventory: Inventory, name: str) -> list[str]:
    lines = []
    for shard in inventory.parts:
        if name in shard.tensors:
            begin, end = shard.span(name)
            lines.append(f"  stored    {shown(shard.path)}, bytes {begin:,} to {end:,} (end not included)")
    if inventory.index is not None:
        named = inventory.index.weight_map.get(name)
        lines.append(f"  index     {shown(named) if named is not None else 'does not name it'}")
    return lines


def _partner(inventory: Inventory, expected: Expectations, name: str, header: TensorHeader | None) -> list[str]:
    """What goes with a weight in fewer bits, or the weight that a scale belongs to."""
    weight, row = expected.codes_of(name), expected.names.get(name)
    if weight is not None:
        return _other(inventory, "weight", weight)
    if (header is not None and is_fp8(header)) or (row is not None and row.quantised):
        companions = () if row is None or row.quantiser is None else row.quantiser.companions
        kinds = {each.of(name): _KINDS.get(each.meaning, "scale") for each in companions}
        absent = {each.of(name) for each in companions if each.optional and each.of(name) not in inventory.tensors}
        others = [other for other in expected.beside(name) if other not in absent]
        return [line for other in others for line in _other(inventory, kinds.get(other, "scale"), other)]
    return []


# What a companion is called that is no scale.
_KINDS = {"shape": "shape", "zero_point": "zeros", "order": "order"}


def _other(inventory: Inventory, kind: str, other: str) -> list[str]:
    partner, shard = inventory.tensors.get(other), inventory.shard_of(other)
    if partner is None or shard is None:
        return [f"  {kind:9} {shown(other)} is missing"]
    begin, end = shard.span(other)
    return [
        f"  {kind:9} {partner.dtype} {partner.shape}, {shown(shard.path)}, bytes {begin:,} to {end:,}",
        f"            {shown(other)}",
    ]
