"""What a tensor's bytes are, by the format of the weight that it holds or goes with.

The expected row says it; a name without one is read by the published convention.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

from msgspec import Struct

from auditor.families.expectations import Expectations, Row
from auditor.families.naming import Naming
from auditor.families.scaling import SCALE_SUFFIX, Companion, Quantiser, scale_name
from auditor.format.dtypes import BITS, FP8, Dtype
from auditor_schemas.config import ModelConfig

# What block scales are stored as: F32 by the published format, the others by later ones and by writers that another
# rule reports.
SCALE_DTYPES = ("F32", "BF16", "F16", "F64", "F8_E8M0")
# Those in which a scale is one of 256 codes.
CODE_DTYPES = ("F8_E8M0", "U8", FP8)

# What scales are of: of blocks that are judged beside them, of other groups, of a whole weight, of activations.
ScaleKind = Literal["block", "group", "tensor", "input"]

# The largest |code|, by how many values share an element and the element's dtype.
_LARGEST = {(1, "F8_E4M3"): 448.0, (1, "I8"): 127.0, (2, "U8"): 6.0, (2, "I8"): 6.0, (8, "I32"): 8.0}


class Blocks(Struct, frozen=True, omit_defaults=True):
    """How FP8 weights are divided: rows and columns of a block, and whether scales are powers of two.

    Blocks of rows begin anew in each of `chunks` equal parts of the rows.
    """

    shape: tuple[int, int]
    powers_of_two: bool
    chunks: int = 1


def declared_blocks(config: ModelConfig | None) -> Blocks | None:
    """The blocks of FP8 weights that config.json declares."""
    quantization = config.quantization_config if config is not None else None
    if quantization is None or quantization.weight_block_size is None:
        return None
    rows, columns = quantization.weight_block_size
    return Blocks((rows, columns), quantization.scale_fmt == "ue8m0")


class Codes(Struct, frozen=True):
    """How the codes of weights are read. `scale` names their scales, which are of one of `dtypes`.

    `blocks`: they are judged in these, beside the scales. `format` is the name of a format of which that cannot be, and
    `packing` how many values share an element.
    """

    scale: Callable[[str], str]
    blocks: Blocks | None = None
    format: str | None = None
    packing: int = 1
    dtypes: tuple[str, ...] = SCALE_DTYPES


class Beside(Struct, frozen=True, omit_defaults=True):
    """What a tensor is to the `weight` whose codes it goes with: scales of a kind, or the unpacked shape.

    `largest` is what the largest |code| makes of a scale of 1, 0 where it divides. `unpacked` is the shape to be said.
    """

    weight: str
    kind: ScaleKind | Literal["shape"]
    powers_of_two: bool = False
    largest: float = 448.0
    unpacked: tuple[int, ...] = ()


class Formats:
    """The formats of a checkpoint's tensors. `blocks` is the declared form of FP8 weights that no row knows."""

    def __init__(self, blocks: Blocks | None, expectations: Expectations | None = None) -> None:
        self.blocks = blocks
        self.naming = Naming() if expectations is None else expectations.naming
        self.reasons: dict[str, str] = {}
        self._expectations = expectations
        self._published = Codes(scale_name, blocks)
        self._codes: dict[Row, Codes] = {}
        # By row and dtype: the last part of the weight's name, and the rest of what is beside it.
        self._beside: dict[tuple[Row, str], tuple[str, Beside | None]] = {}

    def rows_of(self, names: Sequence[str]) -> Sequence[Row | None]:
        """The expected row of each name, or None."""
        return [None] * len(names) if self._expectations is None else self._expectations.rows_of(names)

    @cached_property
    def every_blocks(self) -> list[Blocks]:
        """How FP8 weights can be divided."""
        rows = () if self._expectations is None else self._expectations.layers_of
        known = [self.codes(row).blocks for row in rows if row.quantiser is not None]
        return [blocks for blocks in (*known, self.blocks) if blocks is not None]

    def codes(self, row: Row | None) -> Codes:
        """How the codes of a weight with that row are read."""
        if row is None or row.quantiser is None:
            return self._published
        found = self._codes.get(row)
        if found is None:
            found = self._codes[row] = _codes(row.quantiser, row.shape_of_weight or row.shape)
            if found.format is not None:
                self.reasons[found.format] = _reason(row.quantiser)
        return found

    def beside(self, name: str, dtype: str, row: Row | None) -> Beside | None:
        """What a tensor is to the codes it goes with; None where it is something else, or no numbers of a scale."""
        if row is None:
            if not name.endswith(SCALE_SUFFIX) or dtype not in SCALE_DTYPES:
                return None
            powers_of_two = self.blocks is not None and self.blocks.powers_of_two
            return Beside(name.removesuffix(SCALE_SUFFIX), "block", powers_of_two)
        companion = row.companion
        if companion is None or row.codes is None:
            return None
        stem, key = name.rpartition(".")[0], (row, dtype)
        if key not in self._beside:
            assert self._expectations is not None
            last = f".{row.codes.rpartition('.')[2]}"
            of = self._expectations.row_of(stem + last)
            self._beside[key] = last, self._goes_with(companion, of) if _holds(dtype, companion) else None
        last, found = self._beside[key]
        if found is None:
            return None
        return Beside(stem + last, found.kind, found.powers_of_two, found.largest, found.unpacked)

    def _goes_with(self, companion: Companion, row: Row | None) -> Beside | None:
        if row is None or row.quantiser is None or row.shape_of_weight is None:
            return None
        quantiser, meaning = row.quantiser, companion.meaning
        if meaning == "shape":
            return Beside("", "shape", unpacked=row.shape_of_weight)
        largest = _LARGEST.get((quantiser.packing, quantiser.dtype), 448.0)
        if meaning == "scale" and companion.shape(row.shape_of_weight):
            kind: ScaleKind = "group" if self.codes(row).blocks is None else "block"
            return Beside("", kind, quantiser.powers_of_two, largest)
        if meaning in ("scale", "tensor_scale"):
            return Beside("", "tensor", largest=0.0 if companion.divides else largest)
        return Beside("", "input") if meaning == "input_scale" else None


def _codes(quantiser: Quantiser, shape: tuple[int, ...]) -> Codes:
    """Blocks can be judged where each has a scale of its own, a multiplier, and codes of FP8."""
    scale = next((each for each in quantiser.companions if each.meaning == "scale"), None)
    if scale is None:
        return Codes(scale_name, None, quantiser.name, quantiser.packing)
    only = not any(each.meaning in ("tensor_scale", "zero_point") for each in quantiser.companions)
    grid = len(scale.shape(shape)) == 2 and shape[0] % quantiser.chunks == 0
    if quantiser.dtype == FP8 and quantiser.packing == 1 and only and grid:
        blocks = Blocks(quantiser.block, quantiser.powers_of_two, quantiser.chunks)
        return Codes(scale.of, blocks, dtypes=SCALE_DTYPES + (("U8",) if "U8" in scale.dtypes else ()))
    return Codes(scale.of, None, quantiser.name, quantiser.packing)


def _reason(quantiser: Quantiser) -> str:
    """Why codes of a format are not quantised again."""
    if quantiser.packing > 1:
        bits = BITS[quantiser.dtype] // quantiser.packing
        return (
            f"codes of {bits} bits do not tell how their scales were chosen: writers round the largest weight of a "
            "group up or down, search for the least error, or train them"
        )
    if quantiser.dtype != FP8:
        return f"no formula is published for the scales of {quantiser.dtype} codes"
    return "a scale for all of a weight or a row is a calibrated one, which need not follow from the codes"


def _holds(dtype: Dtype | str, companion: Companion) -> bool:
    """Whether a tensor of a dtype can be read as this companion."""
    if companion.meaning == "shape":
        return dtype in ("I32", "I64")
    return dtype in SCALE_DTYPES or (dtype in ("U8", FP8) and dtype in companion.dtypes)
