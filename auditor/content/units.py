"""What one worker reads at a time: a shard, or where nothing needs it as a whole, a run of its tensors."""

from collections.abc import Sequence

from msgspec.structs import replace

from auditor.content.plan import ShardPlan
from auditor.content.probes import ShardValues
from auditor.errors import ReadError

UNIT_BYTES = 500_000_000  # few enough that workers end together, and far more than it costs to begin one


def units_of(plan: ShardPlan, *, digests: bool, most: int | None = None) -> list[ShardPlan]:
    """A shard's units of at most `most` bytes or one tensor, in the order of the file: each byte is in one.

    SHA-256 is one pass from a file's first byte to its last: with digests a shard is one unit, and so is a sample's.
    """
    if digests or not plan.whole:
        return [plan]
    most = UNIT_BYTES if most is None else most
    cuts, begun, reached = [0], 0, 0
    for position, part in enumerate(plan.parts):
        # Where a header names the same bytes twice, whoever reads them knows that.
        if begun and begun + part.bytes > most and part.begin >= reached:
            cuts.append(position)
            begun = 0
        begun += part.bytes
        reached = max(reached, part.end)
    if len(cuts) == 1:
        return [plan]
    begins = [0, *(plan.parts[cut].begin for cut in cuts[1:])]
    return [
        replace(plan, parts=plan.parts[first:last], begin=begin, end=end)
        for first, last, begin, end in zip(
            cuts, [*cuts[1:], len(plan.parts)], begins, [*begins[1:], plan.size], strict=True
        )
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
        tensors=tuple(values for each in found for values in each.tensors),
        bytes_read=sum(each.bytes_read for each in found),
        zero_tail=zero_tail,
        unjudged=unjudged.unjudged,
        unjudged_code=unjudged.unjudged_code,
        stamps=stamps,
    )


def largest_first(units: Sequence[ShardPlan]) -> list[ShardPlan]:
    """The order in which workers end together; units of one size in the order of the files."""
    return sorted(units, key=lambda unit: -unit.bytes)
