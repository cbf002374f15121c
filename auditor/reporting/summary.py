"""The inventory in patterns and sums: layout, coverage and the source's fingerprint."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import PurePath

from auditor import sources
from auditor.comparison.records import Census, Match, Tally
from auditor.content.probes import Probes
from auditor.families.expectations import Expectations, Row
from auditor.families.naming import Naming
from auditor.format.dtypes import FP8
from auditor.format.entries import Kind
from auditor.inventory.facts import ConfigFile, Inventory
from auditor.patterns import count as covered
from auditor.patterns import escaped, expand, patterns
from auditor_schemas.figures import ComponentTally, Count, Figure, Tallies
from auditor_schemas.finding import Finding, Location
from auditor_schemas.inventory import InventorySummary, LayoutRow
from auditor_schemas.report import AuditReport, Cell, Coverage, RuleOutcome, Run, Source, Tool

# Rows of the layout that a report lists, far above what any layout within the limits needs.
MOST = 50_000


# What every report is made of; the rest is built where it is needed.
_MODELS = (
    Tool,
    Source,
    Run,
    Location,
    Finding,
    RuleOutcome,
    Count,
    Figure,
    InventorySummary,
    LayoutRow,
    Cell,
    Coverage,
)


def prepare() -> None:
    """Build the models of a report now, while a remote source's headers are on their way."""
    for model in (*_MODELS, ComponentTally, Tallies, AuditReport):
        model.model_rebuild()


def inventory_summary(inventory: Inventory, census: Census) -> InventorySummary:
    """The inventory in sums; duplicates count each time they are stored."""
    return InventorySummary(
        tensors=inventory.stored,
        shards=len(inventory.parts),
        elements=census.elements,
        payload_bytes=inventory.payload_bytes,
        file_bytes=sum(shard.size for shard in inventory.parts),
        by_dtype=census.by_dtype,
    )


def fp8_blocks(census: Census) -> int:
    """How many weight blocks the FP8 tensors have, edge blocks included; 128 by 128 where no row says otherwise."""
    total = 0
    for (row, dtype, shape), count in census.counts.items():
        if dtype == FP8 and len(shape) == 2 and (row is None or row.role != "scale"):
            rows, columns = row.quantiser.block if row is not None and row.quantiser is not None else (128, 128)
            total += count * -(-shape[0] // rows) * -(-shape[1] // columns)
    return total


def tallies(tally: Tally) -> Tallies:
    """Parameters by component, as the report shows them."""
    components = tuple(
        ComponentTally(component=name, from_config=expected, from_headers=actual)
        for name, (expected, actual) in tally.components.items()
    )
    return Tallies(
        components=components,
        scale_elements=tally.scale_elements,
        unclassified_elements=tally.unclassified_elements,
    )


def coverage(inventory: Inventory, unread: Iterable[str], probes: Probes | None = None) -> Coverage:
    """What was read: headers, and of the tensors' bytes what `probes` saw."""
    headers = sum(shard.state == "read" for shard in inventory.parts)
    named = inventory.index.places if inventory.index is not None else ()
    shards = len({shard.path for shard in inventory.parts}.union(named))
    values = probes.tensors.values() if probes is not None else ()
    return Coverage(
        payload_bytes_read=sum(shard.bytes_read for shard in probes.shards) if probes is not None else 0,
        tensors_read=len(values),
        blocks_read=sum(each.blocks.blocks for each in values if each.blocks is not None),
        headers_read=headers,
        shards=shards,
        unread=tuple(map(str, unread)),
    )


def fingerprint(inventory: Inventory, config: ConfigFile) -> str | None:
    """SHA-256 over paths, sizes and header digests, config.json and index; None where something is unread.

    The same for a folder and its mirror, and silent about payload.
    """
    if inventory.unread or config.state == "unread":
        return None
    shards = sorted([shard.path, shard.size, shard.header_sha256] for shard in inventory.shards)
    index = inventory.index.sha256 if inventory.index is not None else None
    canonical = json.dumps(
        {"config": config.sha256, "index": index, "shards": shards}, separators=(",", ":"), sort_keys=True
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def source(read: sources.Source, inventory: Inventory, config: ConfigFile) -> Source:
    """Where the checkpoint came from, its revision and its fingerprint."""
    return Source(
        uri=_shown_uri(read),
        revision=read.revision,
        fingerprint=fingerprint(inventory, config),
        versioned=read.versioned,
    )


def _shown_uri(read: sources.Source) -> str:
    """The source without what only concerns this machine: the last component of an absolute local path.

    Bytes of a path that are no text become escapes: a report is UTF-8.
    """
    if read.remote:
        return read.uri
    path = PurePath(read.uri)
    uri = path.name if path.is_absolute() and path.name else read.uri
    return uri.encode("utf-8", "backslashreplace").decode()


def layout(
    inventory: Inventory, expectations: Expectations | None, match: Match | None, census: Census
) -> tuple[tuple[LayoutRow, ...], int]:
    """The inventory in patterns of one shape and dtype, with the shards that hold them; and how many are left out."""
    if expectations is None or match is None or not match.exact(expectations):
        return _enumerate(inventory)
    shown = {}  # shards by pattern, once per set of shards
    rows = []
    stored = {row: dtype for row, dtype, _ in census.counts}
    for row, layers in expectations.layers_of.items():
        if row not in stored:
            continue  # optional
        held = tuple(census.files.get(row, ()))
        if held not in shown:
            shown[held] = file_patterns(held)
        for pattern, count in _row_patterns(row, layers, expectations.naming):
            rows.append(LayoutRow(pattern=pattern, shape=row.shape, dtype=stored[row], files=shown[held], count=count))
    return tuple(sorted(rows, key=lambda each: each.pattern)), 0


def _row_patterns(row: Row, layers: list[int], naming: Naming) -> Iterable[tuple[str, int]]:
    """A row's names as patterns, from its layers and experts alone."""
    if row.top:
        yield row.suffix, 1
        return
    experts = max(1, row.experts)
    number = "0" if experts == 1 else f"{{0-{experts - 1}}}"
    suffix = row.suffix.replace("{expert}", number)
    runs: list[tuple[str, int, int]] = []
    for stack, layer in map(naming.place, layers):
        if runs and runs[-1][::2] == (stack, layer - 1):
            runs[-1] = (stack, runs[-1][1], layer)
        else:
            runs.append((stack, layer, layer))
    for stack, first, last in runs:
        text = str(first) if first == last else f"{{{first}-{last}}}"
        yield f"{stack}{text}.{suffix}", (last - first + 1) * experts


def _enumerate(inventory: Inventory) -> tuple[tuple[LayoutRow, ...], int]:
    kinds: dict[Kind, dict[str, str]] = {}
    for shard in inventory.parts:
        for name, header in shard.tensors.items():
            kinds.setdefault((header.dtype, header.shape), {})[name] = shard.path
    found: list[tuple[str, str, tuple[int, ...], tuple[str, ...]]] = []
    shown: dict[frozenset[str], tuple[str, ...]] = {}  # shards by pattern, once per set of shards
    for (dtype, shape), holders in kinds.items():
        for pattern in patterns(holders):
            held = frozenset(map(holders.__getitem__, expand(pattern)))
            if held not in shown:
                shown[held] = file_patterns(sorted(held))
            found.append((pattern, dtype, shape, shown[held]))
    found.sort()
    rows = (
        LayoutRow(pattern=pattern, shape=shape, dtype=dtype, files=files, count=covered(pattern))
        for pattern, dtype, shape, files in found[:MOST]
    )
    return tuple(rows), len(found[MOST:])


def file_patterns(paths: Iterable[str]) -> tuple[str, ...]:
    """Shard paths with runs of numbers as {a-b}, zeros kept: model-{00003-00012}-of-000163.safetensors."""
    folded: list[tuple[str, int, str, int, int]] = []
    plain: list[str] = []
    for path in map(escaped, paths):
        stem, dash, rest = path.partition("-")
        number, of, tail = rest.partition("-of-")
        if not (dash and of and number.isascii() and number.isdigit()):
            plain.append(path)
            continue
        value, width = int(number), len(number)
        if folded and folded[-1][:3] == (stem, width, tail) and folded[-1][4] == value - 1:
            folded[-1] = (stem, width, tail, folded[-1][3], value)
        else:
            folded.append((stem, width, tail, value, value))
    runs = [
        f"{stem}-{first:0{width}d}-of-{tail}"
        if first == last
        else f"{stem}-{{{first:0{width}d}-{last:0{width}d}}}-of-{tail}"
        for stem, width, tail, first, last in folded
    ]
    return (*runs, *plain)
