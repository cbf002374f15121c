"""Simulates how many workers of uneven speed read a checkpoint's units: a question and its answer, both JSON.

Units and their order are the auditor's own. `folder`: the checkpoint, of which headers alone are read. `digests`: units
are whole shards. `speeds`: of each worker, or `workers` with speeds drawn evenly within `spread` of 1, `draws` times.
`rates`: bytes a second of units as they were measured at speed 1, drawn for each unit. `each`: seconds beside a unit's
reading. Answers seconds until all is read, those of workers that end together, and those of the best plan that is found
by who knows all speeds beforehand; medians of the draws.
"""

import heapq
import json
import random
import sys
from collections.abc import Sequence
from contextlib import closing
from statistics import median
from typing import NamedTuple

from auditor.content.formats import Blocks, Formats
from auditor.content.plan import whole_shards
from auditor.content.units import largest_first, units_of
from auditor.inventory.walk import walk
from auditor.sources import open_source
from auditor_schemas.policy import Limits


class Times(NamedTuple):
    """Seconds of one draw."""

    seconds: float
    ideal: float
    best: float


def unit_bytes(folder: str, *, digests: bool) -> list[int]:
    """The sizes of a checkpoint's units, in the order in which they begin."""
    with closing(open_source(folder)) as source:
        plans = whole_shards(walk(source, Limits()), Formats(Blocks((128, 128), False)))
    units = [unit for plan in plans for unit in units_of(plan, digests=digests)]
    return [unit.bytes for unit in largest_first(units)]


def until_read(work: Sequence[float], speeds: Sequence[float], each: float) -> float:
    """Seconds until the last worker ends, where each takes the next unit when it has ended one."""
    workers = [(0.0, number) for number in range(len(speeds))]
    for seconds in work:
        at, number = workers[0]
        heapq.heapreplace(workers, (at + each + seconds / speeds[number], number))
    return max(at for at, _ in workers)


def best_plan(work: Sequence[float], speeds: Sequence[float]) -> float:
    """The least time in which units, largest first to the slowest worker with room, fit: by halving."""
    low, high = sum(work) / sum(speeds), until_read(work, speeds, 0)
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        room = sorted(middle * speed for speed in speeds)
        fits = True
        for seconds in sorted(work, reverse=True):
            place = min((k for k, left in enumerate(room) if left >= seconds), key=room.__getitem__, default=None)
            if place is None:
                fits = False
                break
            room[place] -= seconds
        low, high = (low, middle) if fits else (middle, high)
    return high


def main() -> None:
    """One question."""
    asked = json.load(sys.stdin)
    sizes = unit_bytes(asked["folder"], digests=asked["digests"])
    found = []
    for seed in range(asked.get("draws", 1)):
        drawn = random.Random(seed)
        spread = asked.get("spread", 0)
        speeds = asked.get("speeds") or [drawn.uniform(1 - spread, 1 + spread) for _ in range(asked["workers"])]
        work = [size / drawn.choice(asked["rates"]) for size in sizes]
        found.append(Times(until_read(work, speeds, asked["each"]), sum(work) / sum(speeds), best_plan(work, speeds)))
    middle = Times(*map(median, zip(*found, strict=True)))
    print(json.dumps({**middle._asdict(), "units": len(sizes), "bytes": sum(sizes)}))


if __name__ == "__main__":
    main()
