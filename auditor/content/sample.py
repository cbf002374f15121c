"""Chooses a sample: seeded, stratified, in strips of rows that are contiguous on disk, within a budget of bytes.

A stratum is a kind of tensor in a group of layers. First, as far as the budget reaches: everything of one dimension,
of experts one of each stratum; a strip of each stratum, and its last one where that ends in partial blocks; the first
and the last strip of both vocabulary matrices, the same of their MTP copies; and a strip of every matrix kind of the
first and the last shard. What is left of the budget goes to the strata in turn, one strip of a tensor chosen at random
at a time.
"""

import hashlib
import random
from collections.abc import Iterable, Iterator
from math import ceil

from msgspec.structs import replace

from auditor.content.formats import Formats
from auditor.content.plan import STRIP_ROWS, Part, ShardPlan, parts_of, shard_plan
from auditor.families.naming import Naming
from auditor.format.entries import Shard
from auditor.inventory.facts import Inventory

_MOST_STRIPS = 1 << 14  # that a tensor is divided into
_GROUPS = 3  # the main model's layers in as many groups: early, middle, late

Stratum = tuple[str, str]
_Strip = tuple[int, int]


class _Chosen:
    """The strips chosen so far, within the budget."""

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.strips: dict[str, set[_Strip]] = {}

    def take(self, part: Part, strip: _Strip) -> bool:
        """Choose a strip if it is new and fits, its tensor's scales included."""
        held = self.strips.get(part.name, set())
        cost = (strip[1] - strip[0]) * part.row_bytes
        if part.scale is not None and not part.scale.whole:
            cost += (part.block_row(strip[1] - 1) + 1 - part.block_row(strip[0])) * part.scale.row_bytes
        elif part.scale is not None and not held:
            cost += 2 * part.scale.bytes  # beside the weight, and for itself
        if strip in held or cost > self.left:
            return False
        self.left -= cost
        self.strips.setdefault(part.name, set()).add(strip)
        return True


def sampled_shards(
    inventory: Inventory, formats: Formats, *, seed: int, budget: int, mtp_layers: Iterable[int]
) -> tuple[ShardPlan, ...]:
    """What to read of each shard. The same inventory, seed and budget give the same plan."""
    shards = [shard for shard in inventory.parts if shard.header_sha256 is not None]
    held = {shard.path: {part.name: part for part in parts_of(shard, inventory, formats)} for shard in shards}
    # Of a name in several shards the last is read, as loaders take it.
    holders = {name: shard for shard in shards for name in held[shard.path]}
    parts = {name: held[shard.path][name] for name, shard in holders.items()}
    # Block scales are read with their weights and are no stratum of their own.
    scales = {part.scale.name for part in parts.values() if part.scale is not None and part.scale.whole}
    strata = _strata(parts, set(mtp_layers), scales, formats.naming)
    chosen = _Chosen(budget)
    for part, strip in _always(parts, strata, shards, holders):
        chosen.take(part, strip)
    _fill(chosen, strata, parts, seed)
    return tuple(_plans(shards, holders, parts, chosen.strips))


def _strata(parts: dict[str, Part], mtp: set[int], scales: set[str], naming: Naming) -> dict[Stratum, list[str]]:
    """The tensors of each stratum."""
    layer_of = {name: naming.layer_of(name) for name in parts}
    layers = [layer for layer in set(layer_of.values()) if layer is not None and layer not in mtp]
    count = max(layers, default=0) + 1
    strata: dict[Stratum, list[str]] = {}
    for name, layer in layer_of.items():
        if name in scales:
            continue
        group = "top" if layer is None else "mtp" if layer in mtp else str(layer * _GROUPS // count)
        strata.setdefault((naming.kind_of(name), group), []).append(name)
    return dict(sorted(strata.items()))


def _always(
    parts: dict[str, Part], strata: dict[Stratum, list[str]], shards: list[Shard], holders: dict[str, Shard]
) -> Iterator[tuple[Part, _Strip]]:
    ends = [shard.path for shard in (shards[0], shards[-1])] if shards else []
    for (kind, _), names in strata.items():
        first = parts[names[0]]
        if len(first.shape) < 2:
            for name in names[: 1 if "{expert}" in kind else None]:
                yield parts[name], (0, parts[name].row_count)
            continue
        yield first, _strips(first)[0]
        if any(size % _height(first) for size in first.shape):
            yield first, _strips(first)[-1]
        for end in ends:
            held = next((each for each in names if holders[each].path == end), None)
            if held is not None:
                yield parts[held], _strips(parts[held])[0]
    for part in parts.values():
        if part.digested and len(part.shape) > 1:
            yield part, _strips(part)[0]
            yield part, _strips(part)[-1]


def _fill(chosen: _Chosen, strata: dict[Stratum, list[str]], parts: dict[str, Part], seed: int) -> None:
    """One strip of each stratum in turn, until a whole round finds nothing that is new and fits."""
    draws = {stratum: _draws(stratum, names, parts, seed) for stratum, names in strata.items()}
    while draws and chosen.left > 0:
        for stratum, draw in list(draws.items()):
            taken = next((True for part, strip in draw if chosen.take(part, strip)), False)
            if not taken:
                del draws[stratum]


def _draws(stratum: Stratum, names: list[str], parts: dict[str, Part], seed: int) -> Iterator[tuple[Part, _Strip]]:
    """Strips of a stratum in random order: a tensor at random, then a strip of it that was not drawn."""
    key = hashlib.sha256(f"{seed}|{stratum[0]}|{stratum[1]}".encode()).digest()
    draw = random.Random(key)  # noqa: S311  # a sample, not a secret
    left: dict[str, list[_Strip]] = {}
    waiting = list(names)
    while waiting:
        index = draw.randrange(len(waiting))
        name = waiting[index]
        strips = left.get(name)
        if strips is None:
            strips = left[name] = _strips(parts[name])
            draw.shuffle(strips)
        yield parts[name], strips.pop()
        if not strips:
            waiting[index] = waiting[-1]
            waiting.pop()


def _height(part: Part) -> int:
    """Rows of a strip: whole rows of blocks, where there are any; more of a table with very many rows."""
    rows = STRIP_ROWS if part.blocks is None else part.blocks.shape[0]
    return rows * max(1, STRIP_ROWS // rows, ceil(part.row_count / rows / _MOST_STRIPS))


def _strips(part: Part) -> list[_Strip]:
    height = _height(part)
    return [
        (first, min(bottom, first + height))
        for top, bottom in part.chunked(0, part.row_count)
        for first in range(top, bottom, height)
    ]


def _plans(
    shards: list[Shard], holders: dict[str, Shard], parts: dict[str, Part], chosen: dict[str, set[_Strip]]
) -> Iterator[ShardPlan]:
    """The chosen strips, shard by shard; a tensor of which every row is chosen at once is read whole."""
    read = {name: parts[name].scale for name in chosen}
    whole = {scale.name for scale in read.values() if scale is not None and scale.whole}
    by_shard: dict[str, list[Part]] = {}
    for name, shard in holders.items():
        part = parts[name]
        if name in whole:
            by_shard.setdefault(shard.path, []).append(part)
        elif name in chosen:
            rows = tuple(sorted(chosen[name]))
            kept = replace(part, rows=() if rows == ((0, part.row_count),) else rows)
            by_shard.setdefault(shard.path, []).append(kept)
    for shard in shards:
        if shard.path in by_shard:
            yield shard_plan(shard, by_shard[shard.path], whole=False)
