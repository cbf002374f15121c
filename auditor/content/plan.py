"""What to read of each shard, decided before a byte of it is read: everything, or what a sample chose."""

from collections.abc import Iterator
from math import ceil

from msgspec import Struct

from auditor.families.scaling import scale_name
from auditor.format.dtypes import FP8, packed_bytes
from auditor.format.entries import Shard, TensorHeader, elements
from auditor.inventory.facts import Inventory

# The most memory that one strip of weight blocks may take: what has longer rows is not judged by blocks.
STRIP_BYTES = 64 << 20
# What block scales are stored as: F32 by the published format, the others by writers that another rule reports.
SCALE_DTYPES = ("F32", "BF16", "F16", "F64", "F8_E8M0")


class ScaleAt(Struct, frozen=True):
    """Where a weight's block scales stand: bytes `begin` to `end` of a shard, a grid of floats."""

    file: str
    begin: int
    end: int
    shape: tuple[int, int]
    dtype: str = "F32"

    @property
    def row_bytes(self) -> int:
        """Bytes of the scales of one row of blocks."""
        return (self.end - self.begin) // max(1, self.shape[0])


class Part(Struct, frozen=True):
    """One tensor to read, at bytes `begin` to `end` of its shard.

    `rows` are half-open ranges of rows (of blocks' rows, for FP8 weights); empty for the whole tensor. `too_wide`:
    an FP8 weight with a grid of scales, of which one row of blocks, or the grid, is more than STRIP_BYTES.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int
    rows: tuple[tuple[int, int], ...] = ()
    scale: ScaleAt | None = None
    too_wide: bool = False

    @property
    def elements(self) -> int:
        """Elements of the whole tensor."""
        return elements(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, of which a tensor of one dimension has one."""
        return (self.end - self.begin) // max(1, self.row_count)

    @property
    def row_count(self) -> int:
        """Rows: the first dimension of a matrix."""
        return self.shape[0] if len(self.shape) > 1 else 1

    @property
    def bytes(self) -> int:
        """How many bytes are to be read."""
        return sum(b - a for a, b in self.rows) * self.row_bytes if self.rows else self.end - self.begin


class ShardPlan(Struct, frozen=True):
    """What to read of one shard, in the order of the file. `whole`: every byte of it."""

    file: str
    size: int
    header_bytes: int
    header_sha256: str | None
    parts: tuple[Part, ...]
    whole: bool

    @property
    def bytes(self) -> int:
        """Tensor bytes to read."""
        return sum(part.bytes for part in self.parts)


class Blocks(Struct, frozen=True):
    """How FP8 weights are divided: rows and columns of a block, and whether scales are powers of two."""

    shape: tuple[int, int]
    powers_of_two: bool


def whole_shards(inventory: Inventory, blocks: Blocks | None) -> tuple[ShardPlan, ...]:
    """Every tensor of every shard whose header is known."""
    places = scale_places(inventory, blocks)
    return tuple(
        shard_plan(shard, [part_of(shard, name, places, blocks) for name in readable(shard)], whole=True)
        for shard in inventory.parts
        if shard.header_sha256 is not None
    )


def shard_plan(shard: Shard, parts: list[Part], *, whole: bool) -> ShardPlan:
    """The plan of one shard, its parts in the order of the file."""
    ordered = tuple(sorted(parts, key=lambda part: (part.begin, part.end)))
    return ShardPlan(shard.path, shard.size, shard.header_bytes, shard.header_sha256, ordered, whole)


def readable(shard: Shard) -> Iterator[str]:
    """The tensors whose bytes are all in the file and as many as shape and dtype say; the others are findings."""
    for name, header in shard.tensors.items():
        begin, end = shard.span(name)
        if begin < end <= shard.size and end - begin == packed_bytes(header.dtype, elements(header.shape)):
            yield name


def part_of(shard: Shard, name: str, places: dict[str, ScaleAt], blocks: Blocks | None) -> Part:
    """One whole tensor, with its scales where it is an FP8 weight that has a grid of them."""
    header = shard.tensors[name]
    begin, end = shard.span(name)
    scale = places.get(scale_name(name)) if header.dtype == FP8 else None
    if scale is not None and (blocks is None or not _covers(scale, header, blocks)):
        scale = None
    if scale is None or blocks is None:
        return Part(name, header.dtype, header.shape, begin, end)
    wide = (
        min(blocks.shape[0], header.shape[0]) * header.shape[1] > STRIP_BYTES or scale.end - scale.begin > STRIP_BYTES
    )
    return Part(name, header.dtype, header.shape, begin, end, (), None if wide else scale, wide)


def scale_places(inventory: Inventory, blocks: Blocks | None) -> dict[str, ScaleAt]:
    """Where every grid of floats is that may be a weight's block scales, by name."""
    if blocks is None:
        return {}
    suffix = scale_name("")
    found = {}
    for shard in inventory.parts:
        for name in readable(shard):
            header = shard.tensors[name]
            if name.endswith(suffix) and header.dtype in SCALE_DTYPES and len(header.shape) == 2:
                found[name] = ScaleAt(shard.path, *shard.span(name), (header.shape[0], header.shape[1]), header.dtype)
    return found


def _covers(scale: ScaleAt, weight: TensorHeader, blocks: Blocks) -> bool:
    if len(weight.shape) != 2:
        return False
    grid = (ceil(weight.shape[0] / blocks.shape[0]), ceil(weight.shape[1] / blocks.shape[1]))
    return scale.shape == grid
