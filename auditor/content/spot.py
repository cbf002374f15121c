"""Chooses the weights whose FP8 format is seen at work: one of each kind, a strip of it, reproducible from the seed."""

import random
from collections.abc import Sequence
from math import ceil, isfinite

import numpy as np

from auditor.content.functional import check
from auditor.content.plan import Blocks, Part, ShardPlan
from auditor.content.probes import Functional
from auditor.content.scales import as_floats
from auditor.errors import ReadError
from auditor.patterns import kind_of
from auditor.sources import Source

_SCALE_BYTES = 4096  # of one strip, more than any layout's
MOST, FEW = 16, 4  # kinds of weight; the releases have fewer than 16


def spot_checks(
    source: Source,
    plans: Sequence[ShardPlan],
    blocks: Blocks,
    *,
    seed: int,
    device: str = "cpu",
    most: int = MOST,
    room: int | None = None,
) -> tuple[Functional, ...]:
    """Check one strip of rows of one weight of each kind that is read, of `most` kinds, on 'cpu' or 'cuda'.

    Of a weight that is read in part, only rows that are read; of all together at most `room` bytes.
    A weight whose product cannot be computed, or that
    cannot be read, is left out: that is a finding elsewhere.
    """
    kinds: dict[str, list[tuple[ShardPlan, Part]]] = {}
    for plan in plans:
        for part in plan.parts:
            if part.scale is not None:
                kinds.setdefault(kind_of(part.name), []).append((plan, part))
    found = []
    for kind in sorted(random.Random(seed).sample(sorted(kinds), min(most, len(kinds)))):  # noqa: S311  # no secret
        chance = random.Random(f"{seed} {kind}")  # noqa: S311  # a sample, no secret
        plan, part = chance.choice(kinds[kind])
        rows = _strip(part, blocks, chance)
        if room is not None:
            room -= (rows[1] - rows[0]) * part.row_bytes + _SCALE_BYTES
            if room < 0:
                break
        try:
            result = _check(source, plan, part, blocks, rows, seed, device)
        except (ReadError, MemoryError):  # a figure must not cost an audit
            continue
        if isfinite(result.relative_error):
            found.append(result)
    return tuple(found)


def _strip(part: Part, blocks: Blocks, chance: random.Random) -> tuple[int, int]:
    """A row of blocks among the rows that are read, half-open in rows."""
    height = blocks.shape[0]
    rows = part.rows or ((0, part.row_count),)
    first, last = chance.choice(rows)
    begin = chance.randrange(first // height, ceil(last / height)) * height
    return begin, min(begin + height, part.row_count)


def _check(
    source: Source, plan: ShardPlan, part: Part, blocks: Blocks, rows: tuple[int, int], seed: int, device: str
) -> Functional:
    assert part.scale is not None
    codes = _read_rows(source, plan.file, part.begin + rows[0] * part.row_bytes, part.begin + rows[1] * part.row_bytes)
    width = part.scale.row_bytes
    begin = part.scale.begin + rows[0] // blocks.shape[0] * width
    scales = _read_rows(source, part.scale.file, begin, begin + width)
    return check(
        part.name,
        np.frombuffer(codes, np.uint8).reshape(-1, part.shape[1]),
        as_floats(scales, part.scale.dtype).reshape(1, -1),
        blocks.shape,
        seed=seed,
        device=device,
    )


def _read_rows(source: Source, path: str, begin: int, end: int) -> bytes:
    file = source.open(path)
    try:
        return file.read(begin, end)
    finally:
        file.close()
