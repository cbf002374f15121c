"""Chooses a sample: seeded, stratified, in strips of rows that are contiguous on disk, within a budget of bytes.

A stratum is a kind of tensor in a group of layers. First, as far as the budget reaches: everything of one dimension;
a strip of each stratum, and its last one where that ends in partial blocks; the first and the last strip of both
vocabulary matrices, the same of their MTP copies; and a strip of every matrix kind of the first and the last shard.
What is left of the budget goes to the strata in turn, one strip of a tensor chosen at random at a time.
"""

import hashlib
import random
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from auditor.content.plan import Blocks, Part, ShardPlan, part_of, readable, scale_places, shard_plan
from auditor.families.scaling import scale_name
from auditor.format.entries import Shard
from auditor.inventory.facts import Inventory
from auditor.patterns import kind_of, layer_of

STRIP_ROWS = 128
_GROUPS = 3  # the main model's layers in as many groups: early, middle, late
_EDGES = ("model.embed_tokens.weight", "lm_head.weight")
_COPIES = (".embed_tokens.weight", ".shared_head.head.weight")

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
        if part.scale is not None and not held:
            cost += 2 * (part.scale.end - part.scale.begin)  # beside the weight, and for itself
        if strip in held or cost > self.left:
            return False
        self.left -= cost
        self.strips.setdefault(part.name, set()).add(strip)
        return True


def sampled_shards(
    inventory: Inventory, blocks: Blocks | None, *, seed: int, budget: int, mtp_layers: Iterable[int]
) -> tuple[ShardPlan, ...]:
    """What to read of each shard. The same inventory, seed and budget give the same plan."""
    places = scale_places(inventory, blocks)
    shards = [shard for shard in inventory.parts if shard.header_sha256 is not None]
    holders = {name: shard for shard in shards for name in readable(shard)}
    parts = {name: part_of(shard, name, places, blocks) for name, shard in holders.items()}
    scales = {scale_name(name) for name, part in parts.items() if part.scale is not None}
    height = STRIP_ROWS if blocks is None else blocks.shape[0] * max(1, STRIP_ROWS // blocks.shape[0])
    strata = _strata(parts, set(mtp_layers), scales)
    chosen = _Chosen(budget)
    for part, strip in _always(parts, strata, shards, holders, height):
        chosen.take(part, strip)
    _fill(chosen, strata, parts, height, seed)
    return tuple(_plans(shards, holders, parts, chosen.strips))


def _strata(parts: dict[str, Part], mtp: set[int], scales: set[str]) -> dict[Stratum, list[str]]:
    """The tensors of each stratum; block scales are read with their weights and are none of their own."""
    layers = [layer for layer in {layer_of(name) for name in parts} if layer is not None and layer not in mtp]
    count = max(layers, default=0) + 1
    strata: dict[Stratum, list[str]] = {}
    for name in parts:
        if name in scales:
            continue
        layer = layer_of(name)
        group = "top" if layer is None else "mtp" if layer in mtp else str(layer * _GROUPS // count)
        strata.setdefault((kind_of(name), group), []).append(name)
    return dict(sorted(strata.items()))


def _always(
    parts: dict[str, Part],
    strata: dict[Stratum, list[str]],
    shards: list[Shard],
    holders: dict[str, Shard],
    height: int,
) -> Iterator[tuple[Part, _Strip]]:
    ends = [shard.path for shard in (shards[0], shards[-1])] if shards else []
    for names in strata.values():
        first = parts[names[0]]
        if len(first.shape) < 2:
            for name in names:
                yield parts[name], (0, parts[name].row_count)
            continue
        yield first, _strips(first, height)[0]
        if any(size % height for size in first.shape):
            yield first, _strips(first, height)[-1]
        for end in ends:
            held = next((each for each in names if holders[each].path == end), None)
            if held is not None:
                yield parts[held], _strips(parts[held], height)[0]
    for name, part in parts.items():
        if (name in _EDGES or name.endswith(_COPIES)) and len(part.shape) > 1:
            yield part, _strips(part, height)[0]
            yield part, _strips(part, height)[-1]


def _fill(chosen: _Chosen, strata: dict[Stratum, list[str]], parts: dict[str, Part], height: int, seed: int) -> None:
    """One strip of each stratum in turn, until a whole round finds nothing that is new and fits."""
    draws = {stratum: _draws(stratum, names, parts, height, seed) for stratum, names in strata.items()}
    while draws and chosen.left > 0:
        for stratum, draw in list(draws.items()):
            taken = next((True for part, strip in draw if chosen.take(part, strip)), False)
            if not taken:
                del draws[stratum]


def _draws(
    stratum: Stratum, names: list[str], parts: dict[str, Part], height: int, seed: int
) -> Iterator[tuple[Part, _Strip]]:
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
            strips = left[name] = _strips(parts[name], height)
            draw.shuffle(strips)
        yield parts[name], strips.pop()
        if not strips:
            waiting[index] = waiting[-1]
            waiting.pop()


def _strips(part: Part, height: int) -> list[_Strip]:
    rows = part.row_count
    return [(first, min(rows, first + height)) for first in range(0, rows, height)]


def _plans(
    shards: list[Shard], holders: dict[str, Shard], parts: dict[str, Part], chosen: dict[str, set[_Strip]]
) -> Iterator[ShardPlan]:
    """The chosen strips, shard by shard; a tensor of which every row is chosen at once is read whole."""
    scales = {scale_name(name) for name in chosen if parts[name].scale is not None}
    for shard in shards:
        held = []
        for name in readable(shard):
            if holders[name] is not shard:
                continue  # of a name in several shards the last is read, as loaders take it
            if name in scales:
                held.append(parts[name])
            elif name in chosen:
                rows = tuple(sorted(chosen[name]))
                held.append(replace(parts[name], rows=() if rows == ((0, parts[name].row_count),) else rows))
        if held:
            yield shard_plan(shard, held, whole=False)
