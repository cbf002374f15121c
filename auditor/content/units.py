"""What one worker reads at a time: a shard, or where nothing needs it as a whole, a run of its tensors."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import ceil, lcm

from msgspec.structs import replace

from auditor.content.formats import CODE_DTYPES
from auditor.content.plan import PAGE, STRIP_ROWS, Part, ShardPlan
from auditor.content.values import ShardValues, TensorValues
from auditor.errors import ReadError

UNIT_BYTES = 500_000_000  # few enough that workers end together, and far more than it costs to begin one
_LEAST_BYTES = 4 * PAGE  # of a piece, so that no page is in three of them


def units_of(plan: ShardPlan, *, digests: bool, most: int | None = None) -> list[ShardPlan]:
    """A shard's units of at most `most` bytes, in the order of the file: each byte is in one.

    Longer ones are of one tensor that cannot be cut, or not as finely. SHA-256 is one pass from a file's first byte to
    its last: with digests a shard is one unit, and so is a sample's, and one without tensors that are known.
    """
    if digests or not plan.whole or not plan.parts:
        return [plan]
    most = UNIT_BYTES if most is None else most
    units: list[list[Part]] = [[]]
    begun, reached = 0, 0
    for part, after in zip(plan.parts, [*plan.parts[1:], None], strict=True):
        # Where a header names the same bytes twice, whoever reads them knows that.
        alone = part.begin >= reached
        if alone and begun and begun + part.bytes > most:
            units.append([])
            begun = 0
        cut = alone and part.bytes > most and (after is None or after.begin >= part.end)
        first, *rest = _pieces(part, most) if cut else [part]
        units[-1].append(first)
        units.extend([piece] for piece in rest)
        begun = begun + part.bytes if not rest else rest[-1].bytes
        reached = max(reached, part.end)
    if len(units) == 1:
        return [plan]
    begins = [0, *(unit[0].own_begin for unit in units[1:])]
    return [
        replace(plan, parts=tuple(parts), begin=begin, end=end)
        for parts, begin, end in zip(units, begins, [*begins[1:], plan.size], strict=True)
    ]


def _pieces(part: Part, most: int) -> list[Part]:
    """A tensor cut at rows where the strips begin that are told from each other, and blocks; whole where it cannot be.

    Whole are vocabularies, of which a digest is made and rows are compared; floats that are scales, of which a median
    is told; and what has no rows, or blocks that begin anew within it.
    """
    beside = part.beside is not None and (part.beside.kind == "shape" or part.dtype not in CODE_DTYPES)
    chunked = part.blocks is not None and part.blocks.chunks > 1
    uneven = part.row_bytes * part.row_count != part.end - part.begin
    if part.row_count < 2 or part.digested or beside or chunked or uneven or part.dtype == "F64":
        return [part]
    height = STRIP_ROWS
    if part.blocks is not None:
        block = part.blocks.shape[0]
        height = lcm(STRIP_ROWS, block * max(1, STRIP_ROWS // block))
    strip = height * part.row_bytes
    rows = height * max(ceil(_LEAST_BYTES / strip), most // strip)
    cuts = list(range(0, part.row_count, rows))
    if len(cuts) > 1 and (part.row_count - cuts[-1]) * part.row_bytes < _LEAST_BYTES:
        cuts.pop()
    if len(cuts) == 1:
        return [part]
    return [
        replace(part, rows=((first, last),), piece=True)
        for first, last in zip(cuts, [*cuts[1:], part.row_count], strict=True)
    ]


def merged(units: Sequence[ShardPlan], found: Sequence[ShardValues]) -> ShardValues:
    """The shard's values from those of its units, both in the order of the file. Raises ReadError where it changed."""
    first = found[0]
    if len(found) == 1:
        return first
    stamps: dict[str, str | None] = {}
    for each in found:
        for file, stamp in each.stamps.items():
            if stamps.setdefault(file, stamp) != stamp:
                raise ReadError(f"{file}: changed while it was read", code="changed")
    zero_tail = 0
    for unit, each in zip(units[::-1], found[::-1], strict=True):
        zero_tail += each.zero_tail
        if each.zero_tail < unit.stop - unit.begin:
            break
    unjudged = next((each for each in found if each.unjudged is not None), first)
    return ShardValues(
        file=first.file,
        size=first.size,
        tensors=tuple(_tensors(units, found)),
        bytes_read=sum(each.bytes_read for each in found),
        zero_tail=zero_tail,
        unjudged=unjudged.unjudged,
        unjudged_code=unjudged.unjudged_code,
        stamps=stamps,
    )


def _tensors(units: Sequence[ShardPlan], found: Sequence[ShardValues]) -> Iterator[TensorValues]:
    """The tensors of all units, of which pieces are put together."""
    from auditor.content.seams import joined

    parts = {part.name: part for unit in units for part in unit.parts if part.piece}
    every = (values for each in found for values in each.tensors)
    for (name, in_pieces), values in groupby(every, lambda each: (each.name, each.seam is not None)):
        if in_pieces:
            yield joined(parts[name], list(values))
        else:
            yield from values


def largest_first(units: Sequence[ShardPlan]) -> list[ShardPlan]:
    """The order in which workers end together; units of one size in the order of the files."""
    return sorted(units, key=lambda unit: -unit.bytes)
