"""Chooses the weights whose FP8 format is seen at work: one of each kind, a strip of it, reproducible from the seed."""

import random
from collections.abc import Sequence
from math import isfinite

import numpy as np

from auditor.content.functional import check
from auditor.content.plan import Part, ScaleAt, ShardPlan
from auditor.content.probes import Functional
from auditor.content.stored import as_floats
from auditor.errors import ReadError
from auditor.families.naming import Naming
from auditor.sources import Source

_SCALE_BYTES = 4096  # at least, of one strip
_STRIP_ROWS = 128  # where blocks are lower
MOST, FEW = 16, 4  # kinds of weight; the releases have fewer than 16


def spot_checks(
    source: Source,
    plans: Sequence[ShardPlan],
    naming: Naming,
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
                kinds.setdefault(naming.kind_of(part.name), []).append((plan, part))
    found = []
    for kind in sorted(random.Random(seed).sample(sorted(kinds), min(most, len(kinds)))):  # noqa: S311  # no secret
        chance = random.Random(f"{seed} {kind}")  # noqa: S311  # a sample, no secret
        plan, part = chance.choice(kinds[kind])
        rows = _strip(part, chance)
        if room is not None:
            room -= (rows[1] - rows[0]) * part.row_bytes + max(_SCALE_BYTES, _scales_of(part, rows).bytes)
            if room < 0:
                break
        try:
            result = _check(source, plan, part, rows, seed, device)
        except (ReadError, MemoryError):  # a figure must not cost an audit
            continue
        if isfinite(result.relative_error):
            found.append(result)
    return tuple(found)


def _strip(part: Part, chance: random.Random) -> tuple[int, int]:
    """A row of blocks among the rows that are read, or several where they are low; half-open in rows."""
    assert part.blocks is not None
    first, last = chance.choice(part.rows or ((0, part.row_count),))
    block_row = chance.randrange(part.block_row(first), part.block_row(last - 1) + 1)
    begin, end = part.rows_of_block(block_row)
    more = max(1, _STRIP_ROWS // part.blocks.shape[0]) - 1
    return begin, min(last, next(part.chunked(begin, end + more * part.blocks.shape[0]))[1], part.row_count)


def _scales_of(part: Part, rows: tuple[int, int]) -> ScaleAt:
    assert part.scale is not None
    return part.scale.of_rows(part.block_row(rows[0]), part.block_row(rows[1] - 1) + 1)


def _check(source: Source, plan: ShardPlan, part: Part, rows: tuple[int, int], seed: int, device: str) -> Functional:
    assert part.blocks is not None
    codes = _read_rows(source, plan.file, part.begin + rows[0] * part.row_bytes, part.begin + rows[1] * part.row_bytes)
    at = _scales_of(part, rows)
    return check(
        part.name,
        np.frombuffer(codes, np.uint8).reshape(-1, part.shape[1]),
        as_floats(_read_rows(source, at.file, at.begin, at.end), at.dtype).reshape(at.shape),
        part.blocks.shape,
        seed=seed,
        device=device,
    )


def _read_rows(source: Source, path: str, begin: int, end: int) -> bytes:
    file = source.open(path)
    try:
        return file.read(begin, end)
    finally:
        file.close()
