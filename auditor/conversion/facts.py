"""What is known of two sides of a conversion, frozen: their weights, which belong together, and how these differ."""

from typing import Literal

from msgspec import Struct, field

from auditor.content.formats import Blocks
from auditor.content.plan import ScaleAt
from auditor.errors import Unread
from auditor.format.entries import elements

Relation = Literal["same_bytes", "same_values", "requantised", "rounded", "different", "not_compared"]
How = Literal["name", "map", "content"]

# What formulas are called, by their place in `kernels.compare`.
FORMULAS = (
    "amax / 448",
    "amax / 448 without a clamp",
    "1 / (448 / amax)",
    "1 / (448 / amax) with 448 / amax as 1 / amax × 448",
    "1 / (448 / amax), codes by division",
    "ue8m0: 2^ceil(log2(amax / 448))",
    "ue8m0: 2^ceil(log2(amax / 448)) without a clamp",
    "amax × (1 / 448)",
    "2^(floor(log2(amax)) - 8)",
    "1 / (448 / amax) in BF16",
    "amax / 448, scales rounded through BF16",
    "amax / 448, scales rounded through F16",
)


class Stored(Struct, frozen=True):
    """One weight as one side stores it, at bytes `begin` to `end` of a file.

    FP8 codes have `scale` and the `blocks` that these are of. `packed`: what it is stored as where values are codes
    that are not read here. `companions` are the names of what goes with the codes, the scales among them.
    """

    name: str
    file: str
    begin: int
    end: int
    dtype: str
    shape: tuple[int, ...]
    scale: ScaleAt | None = None
    blocks: Blocks | None = None
    packed: str = ""
    companions: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows: the first dimension of a matrix, all but the last of what has more."""
        return elements(self.shape[:-1]) if self.shape else 1

    @property
    def columns(self) -> int:
        """Elements of a row."""
        return self.shape[-1] if self.shape else 1

    @property
    def bytes(self) -> int:
        """How many bytes there are, without scales."""
        return self.end - self.begin

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.bytes // max(1, self.rows)

    @property
    def format(self) -> str:
        """The format in words."""
        if self.packed:
            return self.packed
        if self.scale is None or self.blocks is None:
            return self.dtype
        rows, columns = self.blocks.shape
        whole = rows >= self.rows and columns >= self.columns and self.scale.shape == (1, 1)
        grid = "one scale" if whole and rows > 512 else f"{rows} × {min(columns, self.columns)} blocks"
        return (
            f"FP8 in {grid}, {self.scale.dtype} scales" if grid != "one scale" else f"FP8, one {self.scale.dtype} scale"
        )


class Pair(Struct, frozen=True):
    """Two weights that belong together. `rows` are the half-open ranges to compare, none for all of them."""

    old: Stored
    new: Stored
    how: How = "name"
    rows: tuple[tuple[int, int], ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of both sides to read, without scales."""
        rows = sum(b - a for a, b in self.rows) if self.rows else self.old.rows
        return rows * (self.old.row_bytes + self.new.row_bytes)


class Place(Struct, frozen=True):
    """One element: its row and column, what both sides have there, and its bytes in the new side's file."""

    row: int
    column: int
    old: str
    new: str
    begin: int
    end: int


class Sketch(Struct, frozen=True):
    """A few values of a tensor, enough to know it again: the first ones of its first row."""

    values: tuple[float, ...] = ()


class PairValues(Struct, frozen=True):
    """What comparing one pair has shown.

    `elements` were compared, `unequal` are not the other side's after the stated rounding, `beyond` are further away
    than the new format's rounding leaves. Errors are relative to the old value, or to the least normal number of the
    new format where that is more. `formula` names the rounding or the quantisation, of the `formulas`
    that fit the first one, `fault` what was recognised in a
    pair that differs, `reason` why nothing was compared. `first` is the first element that is not equal, of a pair that
    differs the first beyond the bound. Of `blocks` so many are unlike, and `likeness` is the correlation of new and old
    values in blocks that are not the same, both of a pair that differs.
    """

    old: str
    new: str
    old_file: str
    new_file: str
    old_format: str
    new_format: str
    shape: tuple[int, ...]
    how: How
    relation: Relation
    elements: int = 0
    unequal: int = 0
    beyond: int = 0
    largest: float = 0.0
    rms: float = 0.0
    formula: str = ""
    formulas: tuple[str, ...] = ()
    fault: str = ""
    reason: str = ""
    blocks: int = 0
    blocks_unlike: int = 0
    likeness: float = 1.0
    first: Place | None = None
    old_sketch: Sketch | None = None
    new_sketch: Sketch | None = None
    bytes_read: int = 0


class TaskValues(Struct, frozen=True):
    """What comparing the pairs of one file has shown; `stamps` identify the files of both sides as they were."""

    file: str
    pairs: tuple[PairValues, ...]
    old_stamps: dict[str, str | None] = field(default_factory=dict)
    new_stamps: dict[str, str | None] = field(default_factory=dict)


class Unpaired(Struct, frozen=True):
    """What one side has and the other does not, with the names of what goes with its codes."""

    name: str
    format: str
    shape: tuple[int, ...]
    companions: tuple[str, ...] = ()


class Compared(Struct, frozen=True):
    """Everything that is known of the conversion, and what was not read, each with its reason."""

    pairs: tuple[PairValues, ...]
    left_out: tuple[Unpaired, ...]
    added: tuple[Unpaired, ...]
    unread: tuple[Unread, ...]
    seed: int | None
    bytes_read: int
    bytes_total: int
    resumed: int | None
