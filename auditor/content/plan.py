"""What to read of each shard, decided before a byte of it is read: everything, or what a sample chose."""

from collections.abc import Iterator
from math import ceil
from operator import attrgetter

from msgspec import Struct

from auditor.content.formats import Beside, Blocks, Codes, Formats
from auditor.families.expectations import Role, Row
from auditor.format.dtypes import FP8, Dtype
from auditor.format.entries import Kind, Shard, elements
from auditor.inventory.facts import Inventory

# The most memory that one strip of weight blocks may take: what has longer rows is not judged by blocks. Scales are
# read at once where they take no more, else beside each strip.
STRIP_BYTES = 64 << 20
# Rows of a strip that a sample takes, and that tensors are compared by.
STRIP_ROWS = 128
# Bytes of a page of a file, by which small codes are counted and memory is laid out.
PAGE = 4096


class ScaleAt(Struct, frozen=True, omit_defaults=True, gc=False):
    """Where a weight's block scales stand: bytes `begin` to `end` of a shard, a grid of floats, or of U8 as E8M0."""

    file: str
    begin: int
    end: int
    shape: tuple[int, int]
    dtype: str = "F32"
    name: str = ""

    @property
    def bytes(self) -> int:
        """How many bytes there are."""
        return self.end - self.begin

    @property
    def row_bytes(self) -> int:
        """Bytes of the scales of one row of blocks."""
        return (self.end - self.begin) // max(1, self.shape[0])

    @property
    def whole(self) -> bool:
        """Whether the scales are read at once, before their weight."""
        return self.end - self.begin <= STRIP_BYTES

    def of_rows(self, first: int, last: int) -> "ScaleAt":
        """Where the scales of some rows of blocks stand."""
        begin = self.begin + first * self.row_bytes
        end = self.begin + last * self.row_bytes
        return ScaleAt(self.file, begin, end, (last - first, self.shape[1]), self.dtype, self.name)


class Part(Struct, frozen=True, omit_defaults=True, gc=False):
    """One tensor to read, at bytes `begin` to `end` of its shard.

    `rows` are half-open ranges of rows (of blocks' rows, for FP8 weights); empty for the whole tensor. `too_wide`:
    an FP8 weight with a grid of scales, of which one row of blocks, or of scales, is more than STRIP_BYTES. `blocks`
    are those of a weight with `scale`; `format` and `packing` are those of codes that are not judged by blocks.
    `beside` is what it is to the codes it goes with. `below`: a table of whole numbers that are less. `digested`: even
    where nobody asks for digests. `role` is that of the expected row. `piece`: `rows` is one run of
    them, and the others are read too, by other units.
    """

    name: str
    dtype: Dtype
    shape: tuple[int, ...]
    begin: int
    end: int
    rows: tuple[tuple[int, int], ...] = ()
    scale: ScaleAt | None = None
    too_wide: bool = False
    blocks: Blocks | None = None
    beside: Beside | None = None
    format: str | None = None
    packing: int = 1
    below: int | None = None
    digested: bool = False
    role: Role | None = None
    piece: bool = False

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

    @property
    def own_begin(self) -> int:
        """Where in the file begins what is this part's to read: the tensor, or a piece of it."""
        return self.begin + self.rows[0][0] * self.row_bytes if self.piece else self.begin

    @property
    def own_end(self) -> int:
        """Where that ends."""
        return self.begin + self.rows[0][1] * self.row_bytes if self.piece else self.end

    @property
    def own_scale(self) -> ScaleAt | None:
        """The scales to read for it: of a piece those of its rows, where they are read at once."""
        if self.scale is None or not self.piece or not self.scale.whole:
            return self.scale
        first, last = self.rows[0]
        return self.scale.of_rows(self.block_row(first), self.block_row(last - 1) + 1)

    @property
    def chunk_rows(self) -> int:
        """Rows of each part in which blocks begin anew."""
        return self.row_count // (self.blocks.chunks if self.blocks is not None else 1)

    def chunked(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """A range of rows, in ranges within each of which one block of rows follows the other."""
        height = self.chunk_rows
        while first < last:
            stop = min(last, (first // height + 1) * height)
            yield first, stop
            first = stop

    def block_row(self, row: int) -> int:
        """The row of blocks that a row is in."""
        assert self.blocks is not None
        chunk, inside = divmod(row, self.chunk_rows)
        return chunk * ceil(self.chunk_rows / self.blocks.shape[0]) + inside // self.blocks.shape[0]

    def rows_of_block(self, block_row: int) -> tuple[int, int]:
        """The rows of a row of blocks."""
        assert self.blocks is not None
        height = self.blocks.shape[0]
        chunk, inside = divmod(block_row, ceil(self.chunk_rows / height))
        begin = chunk * self.chunk_rows + inside * height
        return begin, min(begin + height, (chunk + 1) * self.chunk_rows)


class ShardPlan(Struct, frozen=True, omit_defaults=True):
    """What to read of one shard, in the order of the file. `whole`: every byte from `begin` to `end` (0: its size)."""

    file: str
    size: int
    header_bytes: int
    header_sha256: str | None
    parts: tuple[Part, ...]
    whole: bool
    begin: int = 0
    end: int = 0

    @property
    def stop(self) -> int:
        """Where in the file it ends."""
        return self.end or self.size

    @property
    def bytes(self) -> int:
        """Tensor bytes to read."""
        return sum(part.bytes for part in self.parts)


def whole_shards(inventory: Inventory, formats: Formats) -> tuple[ShardPlan, ...]:
    """Every tensor of every shard whose header is known."""
    return tuple(
        shard_plan(shard, list(parts_of(shard, inventory, formats)), whole=True)
        for shard in inventory.parts
        if shard.header_sha256 is not None
    )


def shard_plan(shard: Shard, parts: list[Part], *, whole: bool) -> ShardPlan:
    """The plan of one shard, its parts in the order of the file."""
    ordered = tuple(sorted(parts, key=attrgetter("begin", "end")))
    return ShardPlan(shard.path, shard.size, shard.header_bytes, shard.header_sha256, ordered, whole)


class _Alike(Struct, frozen=True):
    """What tensors of one row, dtype and shape have in common, where they go with no codes.

    `beside`: they may go with some; `once`: they are no expert's. `grid` is the shape of their block scales, None where
    they have no blocks; `wide`: a row of these takes more than STRIP_BYTES.
    """

    codes: Codes
    beside: bool
    once: bool
    blocks: Blocks | None
    grid: tuple[int, int] | None
    wide: bool
    format: str | None
    packing: int
    below: int | None
    role: Role | None


def parts_of(shard: Shard, inventory: Inventory, formats: Formats) -> Iterator[Part]:
    """Every tensor of a shard that can be read, whole, with what its row says of it."""
    every: dict[tuple[Row | None, Kind], _Alike] = {}
    is_vocabulary = formats.naming.is_vocabulary
    rows = formats.rows_of(list(shard.extents))
    for (name, (kind, (begin, end))), row in zip(shard.extents.items(), rows, strict=True):
        alike = every.get((row, kind))
        if alike is None:
            alike = every[row, kind] = _alike(kind, row, formats)
        beside = formats.beside(name, kind[0], row) if alike.beside else None
        scale = None if alike.grid is None or beside is not None else _scale(inventory, alike, name)
        wide = scale is not None and (alike.wide or scale.row_bytes > STRIP_BYTES)
        yield Part(
            name,
            *kind,
            begin,
            end,
            (),
            None if wide else scale,
            wide,
            None if scale is None else alike.blocks,
            beside,
            alike.format,
            alike.packing,
            alike.below,
            alike.once and is_vocabulary(name),
            alike.role,
        )


def _alike(kind: Kind, row: Row | None, formats: Formats) -> _Alike:
    codes, (dtype, shape) = formats.codes(row), kind
    known = row is not None and row.quantiser is not None and dtype == row.dtype
    table = row is not None and dtype in ("I32", "I64") and len(shape) == 2
    blocks, grid, wide = codes.blocks if dtype == FP8 else None, None, False
    if blocks is not None and len(shape) == 2 and shape[0] % blocks.chunks == 0:
        rows = blocks.chunks * ceil(shape[0] // blocks.chunks / blocks.shape[0])
        grid = rows, ceil(shape[1] / blocks.shape[1])
        wide = min(blocks.shape[0], shape[0]) * shape[1] > STRIP_BYTES
    return _Alike(
        codes,
        row is None or row.companion is not None,
        row is None or not row.experts,
        blocks,
        grid,
        wide,
        codes.format if known else None,
        codes.packing if known else 1,
        row.below if row is not None and table else None,
        None if row is None else row.role,
    )


def _scale(inventory: Inventory, alike: _Alike, weight: str) -> ScaleAt | None:
    """A weight's block scales, where they are a grid of numbers that covers it."""
    name = alike.codes.scale(weight)
    shard = inventory.shard_of(name)
    extent = None if shard is None else shard.extents.get(name)
    if shard is None or extent is None or alike.grid is None:
        return None
    (dtype, shape), (begin, end) = extent
    if shape != alike.grid or dtype not in alike.codes.dtypes:
        return None
    return ScaleAt(shard.path, begin, end, alike.grid, dtype, name)
