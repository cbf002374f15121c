"""Questions about a checkpoint that need no verdict: its parameter figures, and one tensor."""

from pathlib import Path
from typing import Any

from auditor.comparison import count
from auditor.comparison.match import match, take_census
from auditor.comparison.records import Differences, Tally
from auditor.errors import AuditorError, SourceError
from auditor.families.configure import Configuration
from auditor.families.expectations import Expectations, Row
from auditor.families.scaling import SCALE_SUFFIX, scale_name
from auditor.format.entries import TensorHeader, is_fp8
from auditor.inventory.facts import Inventory
from auditor.opening import opened
from auditor.rules.counts import contradicted_count
from auditor.text import listed, nearest, shown, size


class InvalidConfigError(AuditorError):
    """config.json is there and its faults leave nothing to count (exit 1)."""


def counted(
    source: str, *, family: str | None = None, revision: str | None = None, cache: bool = True
) -> dict[str, Any]:
    """The parameter figures of a config.json, or of a checkpoint folder with its headers beside.

    Raises InvalidConfigError for a config.json with faults, SourceError where there is none.
    """
    path, place = Path(source), Path(source).name or source
    inventory: Inventory | None = None
    if "://" not in source and path.is_file():
        with opened(str(path.parent), family=family, config=path.name) as checkpoint:
            configuration = checkpoint.configuration()
    else:
        with opened(source, family=family, revision=revision, cache=cache) as checkpoint:
            if checkpoint.source.remote:
                source = place = checkpoint.source.uri
            configuration, inventory = checkpoint.configuration(), checkpoint.inventory()
    config, chosen = configuration.config, configuration.family
    if config is None or chosen is None:
        raise _uncountable(source, configuration)
    expectations = chosen.expectations(config)
    held = inventory or Inventory(())
    tally = count.tally(held, expectations, take_census(held, expectations))
    implied = {name: expected or 0 for name, (expected, _) in tally.components.items()}
    counts = count.conventions(implied, tally.expected_scale_elements or 0, config)
    with_headers = inventory is not None and bool(inventory.parts)
    return {
        "source": place,
        "family": chosen.name,
        "agree": _agree(held, expectations, tally) if with_headers else None,
        "conventions": {
            key: {"parameters": counts[key], "convention": text} for key, text in count.CONVENTIONS.items()
        },
        "figures": [figure.model_dump(mode="json") for figure in count.figures(config, chosen, counts)],
        "components": [
            {"component": name, "from_config": expected, "from_headers": actual if with_headers else None}
            for name, (expected, actual) in tally.components.items()
        ],
        "scale_elements": tally.expected_scale_elements,
    }


def _agree(inventory: Inventory, expectations: Expectations, tally: Tally) -> bool:
    """Whether headers and config count the same, by the rule that an audit applies."""
    matched, differences = match(inventory, expectations), Differences(inventory, expectations)
    return not any(contradicted_count.check(tally, matched, differences))


def _uncountable(source: str, configuration: Configuration) -> AuditorError:
    if configuration.unsupported or configuration.over_limit:
        return SourceError(f"{source}: {configuration.unsupported or configuration.over_limit}")
    faults = [f"{fault.field + ' ' if fault.field else ''}{fault.message}" for fault in configuration.faults]
    if any(fault.kind == "missing-config" for fault in configuration.faults):
        return SourceError(f"{source}: config.json is not there")
    return InvalidConfigError(f"{source}: config.json: {shown(listed(faults))}")


def described(
    source: str, name: str, *, family: str | None = None, revision: str | None = None, cache: bool = True
) -> tuple[str, bool]:
    """One tensor in lines: expected, actual, shard, byte range and scale; and whether it is there as expected."""
    with opened(source, family=family, revision=revision, cache=cache) as checkpoint:
        configuration, inventory = checkpoint.configuration(), checkpoint.inventory()
    rows = {}
    if configuration.config is not None and configuration.family is not None:
        rows = configuration.family.expectations(configuration.config).names
    row, header = rows.get(name), inventory.tensors.get(name)
    if row is None and header is None:
        near = nearest(name, [*inventory.tensors, *(each for each in rows if each not in inventory.tensors)])
        raise SourceError(f"no tensor {shown(name)} in the checkpoint or implied by its config{near}")
    lines = [shown(name)]
    lines.append(f"  expected  {_expected(row, bool(rows))}")
    lines.append(f"  actual    {_actual(header)}")
    lines.extend(_places(inventory, name))
    lines.extend(_partner(inventory, rows, name, header))
    sound = row is not None and header is not None and header.shape == row.shape and header.dtype == row.dtype
    sound = sound and sum(name in shard.tensors for shard in inventory.parts) == 1
    return "\n".join(lines) + "\n", sound


def _expected(row: Row | None, derived: bool) -> str:
    if row is None:
        return (
            "nothing: no tensor of this name follows from config.json"
            if derived
            else "unknown: config.json is not usable"
        )
    optional = ", may be absent" if row.optional else ""
    return f"{row.dtype} {row.shape}, {row.component.replace('_', ' ')}{optional}"


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


def _partner(inventory: Inventory, rows: dict[str, Row], name: str, header: TensorHeader | None) -> list[str]:
    """The scale of an FP8 weight, or the weight of a scale."""
    if name.endswith(SCALE_SUFFIX):
        kind, other = "weight", name.removesuffix(SCALE_SUFFIX)
    elif (header is not None and is_fp8(header)) or (name in rows and rows[name].quantised):
        kind, other = "scale", scale_name(name)
    else:
        return []
    partner, shard = inventory.tensors.get(other), inventory.shard_of(other)
    if partner is None or shard is None:
        return [f"  {kind:9} {shown(other)} is missing"]
    begin, end = shard.span(other)
    return [
        f"  {kind:9} {partner.dtype} {partner.shape}, {shown(shard.path)}, bytes {begin:,} to {end:,}",
        f"            {shown(other)}",
    ]
