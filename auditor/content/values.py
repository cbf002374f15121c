"""What one reading of tensors says of their bytes, as frozen values: of blocks, of scales, of a tensor, of a shard.

A block is addressed by its row and column in the weight's grid of blocks; codes are FP8 bit patterns.
Byte ranges are half-open and count from the start of the file. Nothing here reads or judges.
"""

from typing import Literal

from msgspec import Struct, field

from auditor.content.formats import ScaleKind
from auditor.families.conventions import is_companion
from auditor.families.expectations import Role
from auditor.families.scaling import SCALE_SUFFIX
from auditor.format.dtypes import Dtype
from auditor_schemas.codes import Code

Outcome = Literal["exact", "value_equal", "changed", "undefined"]


class BlockNote(Struct, frozen=True, omit_defaults=True, gc=False):
    """One weight block worth pointing at: the first of its kind in a tensor.

    `scale` is the block's, as stored; `largest` its largest |code|; `error` the largest relative error of its
    dequantised values after a round trip. `begin` and `end` are the bytes of the block's strip of rows.
    """

    row: int
    column: int
    scale: float | None
    largest: int
    error: float
    begin: int
    end: int


class BlockValues(Struct, frozen=True, omit_defaults=True, gc=False):
    """The weight blocks of an FP8 weight that were read, and how they round-trip.

    `largest` counts blocks by largest |code| (0 to 127; 126 is 448, 127 is NaN). exact, value_equal, changed
    and undefined add up to `blocks`; `overflowing` are those of the undefined whose codes are numbers and whose
    scale is finite, yet which dequantise to infinity. `error` is the largest relative error over the changed blocks.
    `drifted` are those of the changed whose codes survive while the scale moves, by its last bit as after a
    reciprocal. `foreign` are the blocks that no formula in use can have left: neither exact, nor with a largest code
    of 448 (of 224 and more where the scale is a power of two), nor at the clamp; `unsaturated` are those of them whose
    largest code says so, `narrow` those that scaling to 240, the largest value of E4M3FNUZ, leaves, and `first_other`
    is the first that is not.
    """

    blocks: int = 0
    zero: int = 0
    largest: dict[int, int] = field(default_factory=dict)
    exact: int = 0
    value_equal: int = 0
    changed: int = 0
    undefined: int = 0
    overflowing: int = 0
    drifted: int = 0
    foreign: int = 0
    unsaturated: int = 0
    narrow: int = 0
    error: float = 0.0
    first_nan: BlockNote | None = None
    first_overflowing: BlockNote | None = None
    first_changed: BlockNote | None = None
    first_foreign: BlockNote | None = None
    first_other: BlockNote | None = None


class Position(Struct, frozen=True, omit_defaults=True, gc=False):
    """Where a value stands: flat element index in the tensor, and its bytes in the file."""

    element: int
    begin: int
    end: int
    text: str


class ScaleValues(Struct, frozen=True, omit_defaults=True, gc=False):
    """The values of one tensor of block scales, all of them.

    `exponents` counts the finite positive ones by floor(log2(value)), `clamped` those at 1e-4 / 448, which an
    all but empty block gets. `columns` is the grid's width: a position's block is divmod(element, columns).
    nan, infinite, zero, negative and subnormal add up without overlap: a negative scale is finite, normal or not,
    a subnormal one positive. `first` has the first value of each kind that a scale should not be, under the name of
    its field, or `not_power_of_two` for the first finite positive one that is none. `bf16` counts the finite
    positive ones that BF16 has, powers of two among them, `f16` those that F16 has; `published` those that are
    amax / 448 of some amax, `reciprocal` those that are 1 / (448 / amax) of one. Of scales that are stored in 8 bits
    these four are 0.
    They are scales of a `kind`, those of `weight`, which is empty for the one that the published name leads to;
    `largest_code` is what the largest |code| makes of a scale of 1.
    """

    values: int
    columns: int
    nan: int = 0
    infinite: int = 0
    zero: int = 0
    negative: int = 0
    subnormal: int = 0
    powers_of_two: int = 0
    clamped: int = 0
    bf16: int = 0
    published: int = 0
    reciprocal: int = 0
    minimum: float | None = None
    median: float | None = None
    maximum: float | None = None
    exponents: dict[int, int] = field(default_factory=dict)
    first: dict[str, Position] = field(default_factory=dict)
    largest: Position | None = None
    smallest: Position | None = None
    f16: int = 0
    weight: str = ""
    kind: ScaleKind = "block"
    largest_code: float = 448.0

    @property
    def usable(self) -> int:
        """How many are finite and positive."""
        return sum(self.exponents.values())

    @property
    def uneven(self) -> int:
        """How many of these are no powers of two."""
        return self.usable - self.powers_of_two


class TableValues(Struct, frozen=True, omit_defaults=True, gc=False):
    """A table of whole numbers that are to be at least 0 and `below` a bound, those of one row all different.

    `outside` counts numbers, `repeated` rows that hold one twice, both among the `rows` read.
    """

    below: int
    rows: int
    outside: int = 0
    repeated: int = 0
    first_outside: Position | None = None
    first_repeated: Position | None = None


class Texture(Struct, frozen=True, omit_defaults=True, gc=False):
    """What the codes of an FP8 weight look like, where blocks are whole chunks of 64 codes wide.

    `small` is the largest share of codes below 0.125 (of 448), but not ±0, in one of `pages` of 4 KiB that has codes of
    every other size as well; `small_pages` are those above an eighth. `zero_run` and `sign_run` are the longest runs,
    in codes, of chunks that are zeros of one sign, or other codes of one sign, in blocks that hold something. Each has
    its place.
    """

    pages: int = 0
    small: float = 0.0
    small_pages: int = 0
    zero_run: int = 0
    sign_run: int = 0
    first_small: Position | None = None
    first_zeros: Position | None = None
    first_sign: Position | None = None


class RowValues(Struct, frozen=True, omit_defaults=True, gc=False):
    """The rows of a matrix that were read: how many are zeros, and how many of the others hold what another does.

    Only rows of vocabularies are compared.
    """

    rows: int
    zeros: int = 0
    doubled: int = 0


class Seam(Struct, frozen=True, omit_defaults=True, gc=False):
    """What a piece of a tensor tells beside its values, for these to be put together with those of the next piece.

    `first` are the bits of its first element where all have the same. `head` and `tail` are bytes at its ends, for the
    pages that it shares, and `small` how many small codes those pages have here. `runs` are those of texture as they
    stand: in chunks the one that has not ended, the longest, its place, the one it begins with, whether that has ended.
    `codes` counts those of scales, with the first element of each.
    """

    first: int | None = None
    head: bytes = b""
    tail: bytes = b""
    small: tuple[int, int] = (0, 0)
    runs: tuple[tuple[int, int, int, int, int], ...] = ()
    codes: dict[int, tuple[int, int]] = field(default_factory=dict)


class TensorValues(Struct, frozen=True, omit_defaults=True, gc=False):
    """What was read of one tensor. `read` counts elements; `rows` are the rows read, empty for all of them.

    Minimum and maximum are over finite values, of FP8 over codes without their scales; None where there is
    none. `constant`: every element read has the same bits. `e4m3`: every element read, in BF16, F16 or F32, is a
    number that E4M3 has. `xxh3` is the XXH3-128 of all its bytes, `strips`
    that of each range of rows where only some were read. `format` is the name of a format whose codes are not quantised
    again, `role` that of its expected row, `packing` how many values of it share an element: such an element counts as
    zero that has but zeros, of packed INT4 also its other end, -8. `shape_said` is what a tensor says of its weight's
    shape, which is `unpacked`. `bands` has a 64-bit number for each strip of 128 rows read, in order, which two strips
    of the same dtype and row length share only where they hold the same; 0 for one that holds nothing, or is not
    looked at. `exponents` counts BF16 and F32 values by floor(log2(|value|)), of large tensors an eighth.
    `doubled_pages` are the pages of 4 KiB that are there twice, one behind the other. `seam`: it is a piece.
    """

    name: str
    file: str
    dtype: Dtype
    shape: tuple[int, ...]
    elements: int
    read: int
    nan: int = 0
    infinite: int = 0
    zeros: int = 0
    minimum: float | None = None
    maximum: float | None = None
    constant: bool = False
    e4m3: bool = False
    rows: tuple[tuple[int, int], ...] = ()
    xxh3: str | None = None
    strips: tuple[str, ...] = ()
    first_nonfinite: Position | None = None
    blocks: BlockValues | None = None
    scales: ScaleValues | None = None
    format: str | None = None
    role: Role | None = None
    packing: int = 1
    shape_said: tuple[int, ...] | None = None
    unpacked: tuple[int, ...] | None = None
    table: TableValues | None = None
    bands: bytes = b""
    texture: Texture | None = None
    matrix: RowValues | None = None
    exponents: dict[int, int] = field(default_factory=dict)
    doubled_pages: int = 0
    first_doubled: Position | None = None
    seam: Seam | None = None

    @property
    def whole(self) -> bool:
        """Whether every element was read."""
        return self.read == self.elements

    @property
    def goes_with_codes(self) -> bool:
        """Whether it goes with a weight's codes, as expected or by its name: scales, an offset, an order, a shape."""
        if self.role is not None:
            return self.role == "scale"
        return self.scales is not None or is_companion(self.name)


class ShardValues(Struct, frozen=True, omit_defaults=True, gc=False):
    """What was read of one shard. `sha256` is of the whole file; `zero_tail` counts zero bytes at its end.

    `bytes_read` are bytes of tensors. `unjudged` says why weights of it were not judged by blocks, where
    their scales could not be read from another shard. `stamps` identify every file that took part, as they were
    when they were read.
    """

    file: str
    size: int
    tensors: tuple[TensorValues, ...]
    bytes_read: int
    sha256: str | None = None
    zero_tail: int = 0
    unjudged: str | None = None
    unjudged_code: Code | None = None
    stamps: dict[str, str | None] = field(default_factory=dict)


def weight_of(scales: TensorValues) -> str:
    """The name of the weight that scales belong to."""
    assert scales.scales is not None
    return scales.scales.weight or scales.name.removesuffix(SCALE_SUFFIX)
