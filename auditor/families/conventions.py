"""The formats of quantised weights that are in use, as data: what belongs together, and what shape it then has.

A weight is stored as codes under a name's stem, with companions beside them. The same companion means different things
in different formats, so that a format is told by the codes' dtype, the companions and their dtypes together. Where a
family is known its Quantisers say more; these are for tensors of which nothing is known but what they are.
"""

from collections.abc import Iterator
from math import ceil, prod

from msgspec import Struct

from auditor.format.dtypes import FLOATS, Dtype

Shape = tuple[int, ...]

FP8_DTYPES: tuple[Dtype, ...] = ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
_FLOAT_SCALES: tuple[Dtype, ...] = ("F32", "BF16", "F16", "F64")
# Powers of two are stored as what they are, or as the byte of their exponent.
_EXPONENTS: tuple[Dtype, ...] = ("F8_E8M0", "U8")


class Block(Struct, frozen=True, order=True):
    """Rows and columns of values that share a scale; 0 is the whole axis. `parts`: rows begin anew in each of these."""

    rows: int
    columns: int
    parts: int = 1

    def __str__(self) -> str:
        if (self.rows, self.columns) == (0, 0):
            return "one for the tensor"
        if (self.rows, self.columns) == (1, 0):
            return "one for each row"
        sizes = " × ".join("all" if size == 0 else str(size) for size in (self.rows, self.columns))
        return sizes if self.parts == 1 else f"{sizes} in {self.parts} parts"

    @property
    def usual(self) -> bool:
        """Whether it is of a form that formats have: squares, groups of a row, a row, the tensor."""
        whole = (self.rows, self.columns) in ((0, 0), (1, 0))
        square = self.rows == self.columns >= _LEAST_GROUP
        return whole or square or (self.rows == 1 and self.columns >= _LEAST_GROUP)

    @property
    def likelihood(self) -> int:
        """Which of two is likelier, the higher: usual ones first, of these the ones whose groups are powers of two."""
        return 2 * self.usual + (self.columns & (self.columns - 1) == 0)


_LEAST_GROUP = 16
_SIDES = (128, 64, 32, 16, 256, 512)
_PARTS = (2, 4, 8, 16, 32, 64)


class Convention(Struct, frozen=True, kw_only=True):
    """One format: the codes' name under the stem and their dtypes, the companion that scales them, and the others.

    `bits`: how many bits of an element one code may take; none where an element is a code. `transposed`: codes are
    stored as (in, out). `blocks`: the only ones it has; none given, any that is usual. `declared`: what declarations
    call it. `opaque`: nothing follows for shapes.
    """

    name: str
    codes: str
    dtypes: tuple[Dtype, ...]
    scale: str
    scale_dtypes: tuple[Dtype, ...]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    bits: tuple[int, ...] = ()
    blocks: tuple[Block, ...] = ()
    transposed: bool = False
    row_packed: bool = False
    opaque: bool = False
    declared: tuple[str, ...] = ()

    @property
    def companions(self) -> tuple[str, ...]:
        """The names of all that may stand beside the codes."""
        return (self.scale, *self.required, *self.optional)


_BLOCK_32, _BLOCK_16 = (Block(1, 32),), (Block(1, 16),)
_ACTIVATIONS = ("input_scale", "activation_scale", "output_scale")
_COMPRESSED = ("weight_zero_point", "weight_g_idx", "input_zero_point", *_ACTIVATIONS)


def _fp8(scale: str, dtypes: tuple[Dtype, ...], *optional: str, codes: str = "weight") -> Convention:
    return Convention(
        name="FP8",
        codes=codes,
        dtypes=FP8_DTYPES,
        scale=scale,
        scale_dtypes=dtypes,
        optional=optional,
        declared=("fp8", "fbgemm_fp8", "mxfp8", "float-quantized", "naive-quantized", "compressed-tensors", "modelopt"),
    )


def _int8(scale: str, *optional: str) -> Convention:
    return Convention(
        name="INT8",
        codes="weight",
        dtypes=("I8",),
        scale=scale,
        scale_dtypes=_FLOAT_SCALES,
        optional=optional,
        declared=("blockwise_int8", "w8a8_int8", "int-quantized", "naive-quantized", "bitsandbytes", "eetq"),
    )


# In this order: the first that fits a stem's tensors is its format.
CONVENTIONS: tuple[Convention, ...] = (
    _fp8("weight_scale_inv", (*_FLOAT_SCALES, *_EXPONENTS), *_ACTIVATIONS),
    _fp8("weight_scale", (*_FLOAT_SCALES, *_EXPONENTS), "input_scale_ub", *_COMPRESSED),
    _fp8("scale", (*_FLOAT_SCALES, *_EXPONENTS), *_ACTIVATIONS),
    _fp8("weight_scales", _FLOAT_SCALES, *_ACTIVATIONS),
    _fp8("scale_weight", _FLOAT_SCALES, "scale_input"),
    _fp8("qscale_weight", _FLOAT_SCALES, "qscale_act"),
    _fp8("*_scale_inv", (*_FLOAT_SCALES, *_EXPONENTS), codes="*"),
    _fp8("*_scale", (*_FLOAT_SCALES, *_EXPONENTS), codes="*"),
    Convention(
        name="MXFP4", codes="weight", dtypes=("I8",), scale="scale", scale_dtypes=("F8_E8M0",), bits=(4,),
        blocks=_BLOCK_32, declared=("fp4", "mxfp4", "fp8"),
    ),
    _int8("weight_scale_inv", *_ACTIVATIONS),
    _int8("weight_scale", "weight_offset", "deq_scale", "quant_bias", "input_offset", *_COMPRESSED),
    _int8("weight_scales"),
    _int8("scale"),
    _int8("SCB", "weight_format"),
    Convention(
        name="NVFP4", codes="weight", dtypes=("U8",), scale="weight_scale", scale_dtypes=("F8_E4M3",),
        required=("weight_scale_2",), optional=("input_scale", "pre_quant_scale"), bits=(4,), blocks=_BLOCK_16,
        declared=("nvfp4", "w4a16_nvfp4", "mixed_precision", "modelopt", "modelopt_fp4", "nvfp4_awq"),
    ),
    Convention(
        name="MXFP4", codes="weight", dtypes=("U8",), scale="weight_scale", scale_dtypes=_EXPONENTS,
        optional=("input_scale",), bits=(4,), blocks=_BLOCK_32, declared=("mxfp4", "quark", "mixed_precision"),
    ),
    Convention(
        name="INT4", codes="weight", dtypes=("U8",), scale="weight_scale", scale_dtypes=_FLOAT_SCALES,
        optional=("pre_quant_scale", "weight_scale_2", *_ACTIVATIONS), bits=(4,), row_packed=True,
        declared=("w4a16_awq", "w4a8_awq", "modelopt", "w4afp8", "mixed_precision"),
    ),
    Convention(
        name="bitsandbytes 4-bit", codes="weight", dtypes=("U8",), scale="weight.absmax", scale_dtypes=("F32", "U8"),
        optional=(
            "weight.quant_map", "weight.nested_absmax", "weight.nested_quant_map",
            "weight.quant_state.bitsandbytes__nf4", "weight.quant_state.bitsandbytes__fp4",
        ),
        opaque=True, declared=("bitsandbytes",),
    ),
    Convention(
        name="packed integers", codes="weight_packed", dtypes=("I32",), scale="weight_scale",
        scale_dtypes=_FLOAT_SCALES, required=("weight_shape",), optional=_COMPRESSED, bits=(4, 8, 2),
        declared=("pack-quantized", "compressed-tensors"),
    ),
    Convention(
        name="NVFP4", codes="weight_packed", dtypes=("U8",), scale="weight_scale", scale_dtypes=("F8_E4M3",),
        required=("weight_global_scale",), optional=("input_global_scale",), bits=(4,), blocks=_BLOCK_16,
        declared=("nvfp4-pack-quantized", "compressed-tensors"),
    ),
    Convention(
        name="MXFP4", codes="weight_packed", dtypes=("U8",), scale="weight_scale", scale_dtypes=_EXPONENTS,
        bits=(4,), blocks=_BLOCK_32, declared=("mxfp4-pack-quantized", "compressed-tensors"),
    ),
    Convention(
        name="GPTQ", codes="qweight", dtypes=("I32",), scale="scales", scale_dtypes=_FLOAT_SCALES,
        optional=("qzeros", "g_idx"), bits=(4, 8, 2, 3), transposed=True, row_packed=True,
        declared=("gptq", "auto-round", "intel/auto-round"),
    ),
    Convention(
        name="AWQ", codes="qweight", dtypes=("I32",), scale="scales", scale_dtypes=_FLOAT_SCALES,
        optional=("qzeros",), bits=(4, 8), transposed=True, declared=("awq", "auto-round", "intel/auto-round"),
    ),
    Convention(
        name="MXFP4", codes="*_blocks", dtypes=("U8",), scale="*_scales", scale_dtypes=_EXPONENTS, bits=(4,),
        blocks=_BLOCK_32, declared=("mxfp4",),
    ),
    Convention(
        name="MLX", codes="weight", dtypes=("U32",), scale="scales", scale_dtypes=(*_FLOAT_SCALES, *_EXPONENTS),
        optional=("biases",), bits=(4, 8, 6, 5, 3, 2), declared=("mlx", "affine"),
    ),
    Convention(
        name="Quanto", codes="weight._data", dtypes=("I8", "U8", *FP8_DTYPES), scale="weight._scale",
        scale_dtypes=_FLOAT_SCALES, optional=("weight._shift", "weight._zeropoint", *_ACTIVATIONS), opaque=True,
        declared=("quanto",),
    ),
)  # fmt: skip

# Names under a stem that are a companion's, and nothing else in any layout that is known.
CERTAIN_COMPANIONS = frozenset(
    {
        "weight_scale_inv", "weight_scale", "weight_scale_2", "weight_global_scale", "weight_shape",
        "weight_zero_point", "weight_g_idx", "weight_scales", "qzeros", "g_idx", "SCB", "scale_weight",
        "qscale_weight", "weight.absmax", "weight._scale", "weight._shift",
    }
)  # fmt: skip
_LAST = frozenset(part.rpartition(".")[2] for part in CERTAIN_COMPANIONS)
# Names that other things have as well: they are companions beside codes alone.
_OTHERS = frozenset(each for convention in CONVENTIONS for each in convention.companions) - CERTAIN_COMPANIONS
# Scales of what is not stored, the cache of keys and values: beside a module or in it.
CACHE_SCALES = frozenset({"k_scale", "v_scale", "q_scale", "prob_scale"})
_CODES = frozenset(convention.codes for convention in CONVENTIONS)

# What may stand under a stem behind its last dot; those of two parts come first, as the longest suffix decides.
_DOTTED = frozenset(part for part in CERTAIN_COMPANIONS | _OTHERS | CACHE_SCALES | _CODES if part[0] != "*")
# What a name ends in that has no part of its own: (suffix of the companion, suffix of the codes).
ATTACHED = (("_scale_inv", ""), ("_scales", "_blocks"), ("_scale", ""))


def split(name: str) -> tuple[str, str]:
    """A name's stem and what it is under it; the second is empty for a tensor that stands for itself."""
    rest, dot, last = name.rpartition(".")
    part = last if last in _DOTTED else ""
    before, _, middle = rest.rpartition(".")
    if f"{middle}.{last}" in _DOTTED:
        part = f"{middle}.{last}"
    elif middle == "quant_state" and before.endswith(".weight"):
        part = f"weight.quant_state.{last}"
    return (name[: -len(part) - 1], part) if dot and part and len(part) < len(name) else (name, "")


def is_companion(name: str) -> bool:
    """Whether a name is that of a companion and of nothing else."""
    return name.rpartition(".")[2] in _LAST and split(name)[1] in CERTAIN_COMPANIONS


def is_packed(dtype: str) -> bool:
    """Whether elements of a dtype are no numbers of a model by themselves: codes of one or several to an element."""
    return dtype in FP8_DTYPES or dtype in ("I8", "U8", "I32", "U32", "F4", "F6_E2M3", "F6_E3M2")


def is_float(dtype: str) -> bool:
    """Whether elements of a dtype are the values themselves."""
    return dtype in FLOATS


# --- shapes ---


def weights(convention: Convention, codes: Shape, dtype: str, declared: int | None = None) -> Iterator[Shape]:
    """The shapes (…, out, in) that codes may stand for, the likeliest first: those of the declared bits, if any."""
    if convention.codes == "*_blocks":
        yield (*codes[:-2], codes[-2] * codes[-1] * 2) if len(codes) > 1 else codes
        return
    if len(codes) < 2 or not convention.bits:
        yield codes
        return
    width = {"I8": 8, "U8": 8, "I32": 32, "U32": 32}.get(dtype, 4)
    *leading, rows, columns = codes
    for bits in sorted(convention.bits, key=lambda each: each != declared):
        packed_rows, packed_columns = rows * width // bits, columns * width // bits
        if convention.transposed:
            yield (*leading, columns, packed_rows) if convention.row_packed else (*leading, packed_columns, rows)
        elif convention.row_packed:
            yield (*leading, packed_rows, columns)
        else:
            yield (*leading, rows, packed_columns)


def blocks(weight: Shape, scale: Shape) -> list[Block]:
    """The blocks of a weight (…, out, in) for which scales of that shape are one each, usual ones first."""
    if 0 in weight or 0 in scale:
        return []
    if prod(scale) == 1:
        small = [Block(side, side) for side in _SIDES if len(weight) == 2 and max(weight) <= side]
        return [Block(0, 0), *small]
    if len(weight) > 2 and scale[: len(weight) - 2] == weight[:-2]:  # a matrix for each of the leading axes
        found = blocks(weight[-2:], scale[len(weight) - 2 :])
        if found:
            return found
    if len(weight) > 2:  # a convolution: what follows the first axis is one
        weight = (weight[0], prod(weight[1:]))
    while len(scale) > 1 and scale[-1] == 1:
        scale = scale[:-1]
    if len(scale) == 4 and scale[1] == scale[3] == 1:
        scale = (scale[0], scale[2])
    if len(scale) == 3 and scale[1] == 1:
        scale = (scale[0], scale[2])
    if len(scale) == 1:
        if weight[:1] == scale:
            return [Block(1, 0)]
        scale = (scale[0], 1)
    if len(weight) != 2 or len(scale) != 2:
        return []
    columns = list(_sides(weight[1], scale[1]))
    rows = [(side, 1) for side in _sides(weight[0], scale[0])] or list(_in_parts(weight[0], scale[0]))
    products = {Block(height, width, parts) for height, parts in rows for width in columns}
    return sorted(products, key=lambda each: (not each.usual, _rank(each)))


def _sides(length: int, count: int) -> Iterator[int]:
    """The sides of blocks of which an axis has so many; the last one may be partial."""
    if count < 1 or count > length:
        return
    if count == length:
        yield 1
    if count == 1:
        yield 0
    known = [side for side in _SIDES if ceil(length / side) == count]
    yield from known
    if not known and length % count == 0 and 1 < count < length:
        yield length // count


def _in_parts(length: int, count: int) -> Iterator[tuple[int, int]]:
    """Sides of blocks that begin anew in each of several parts of the rows, as those of fused projections do."""
    for parts in _PARTS:
        if length % parts == 0 and count % parts == 0 and ceil(length / parts / 128) == count // parts:
            yield 128, parts


def _rank(block: Block) -> tuple[int, ...]:
    order = {side: position for position, side in enumerate((1, *_SIDES, 0))}
    return order.get(block.rows, 99), order.get(block.columns, 99), block.rows, block.columns
