"""How weights are stored in fewer bits: codes, what goes with them, and other spellings of it in the wild.

A weight of shape (out, in) is `codes` of a dtype, several to an element where they are packed, and companions: scales,
shapes, zero points. Each format is data, a Quantiser; which one a module has, its family says and an export's
declaration.
"""

from collections.abc import Callable, Iterator
from math import ceil
from typing import Literal

from msgspec import Struct

from auditor.format.dtypes import FP8, Dtype

Shape = tuple[int, ...]

# What a companion says: scales of blocks or of the whole weight, of activations, the unpacked shape, offsets, an order.
Meaning = Literal["scale", "tensor_scale", "input_scale", "shape", "zero_point", "order"]


class Companion(Struct, frozen=True, eq=False):
    """A tensor that goes with a weight's codes.

    `name` stands in the place of the last part of the codes' name, `*` in it for that part. `dtypes`: the usual one
    first, any of them is as good. `shape` is that of the companion, by the weight's (out, in). `divides`: what it is a
    scale of is divided by it.
    """

    name: str
    dtypes: tuple[Dtype, ...]
    shape: Callable[[Shape], Shape]
    meaning: Meaning = "scale"
    optional: bool = False
    divides: bool = False

    def of(self, codes: str) -> str:
        """The companion's name beside that of codes."""
        if self.name[0] == "*":  # as most are: nothing of the name is replaced
            return codes + self.name[1:]
        stem, dot, last = codes.rpartition(".")
        return f"{stem}{dot}{self.name.replace('*', last)}"


class Quantiser(Struct, frozen=True, eq=False):
    """One format of weights.

    `name` is for a person. `codes` is the last part of the name of the codes, of `dtype`, each element of which packs
    `packing` values: of one row, or as `layout` says of the shape of the codes. `block`: rows and columns of values
    that share a scale; the first block of rows begins anew in each of `chunks` equal parts of the rows, as where
    projections that were quantised apart are stored as one.
    """

    name: str
    dtype: Dtype
    block: tuple[int, int]
    companions: tuple[Companion, ...]
    codes: str = "weight"
    packing: int = 1
    powers_of_two: bool = False
    chunks: int = 1
    layout: Callable[[Shape], Shape] | None = None

    @property
    def kind(self) -> str:
        """The format in a word."""
        return self.name.partition(" ")[0]

    def stored(self, shape: Shape) -> Shape:
        """The shape of the codes of a weight (out, in); the last element of a row may be partly used."""
        if self.layout is not None:
            return self.layout(shape)
        return (*shape[:-1], ceil(shape[-1] / self.packing))

    def required(self, codes: str) -> Iterator[str]:
        """The names of the companions without which codes are not what they stand for."""
        return (each.of(codes) for each in self.companions if not each.optional)


def grid(rows: int, columns: int, chunks: int = 1) -> Callable[[Shape], Shape]:
    """The shape of scales, one a block. The last block of an axis may be partial (576 rows are 5 of 128): rounds up.

    So may the last one of each of `chunks` equal parts of the rows.
    """
    return lambda shape: (*shape[:-2], chunks * ceil(shape[-2] / chunks / rows), ceil(shape[-1] / columns))


def scalar(_: Shape) -> Shape:
    """The shape of one value for the whole weight."""
    return ()


def fp8_blocks(
    block: tuple[int, int],
    *,
    scale: str = "*_scale_inv",
    dtypes: tuple[Dtype, ...] = ("F32",),
    chunks: int = 1,
    powers_of_two: bool = False,
) -> Quantiser:
    """FP8 (E4M3) with one scale, a multiplier, for each block of a weight: DeepSeek's format and what came of it."""
    companion = Companion(scale, dtypes, grid(*block, chunks))
    name = f"FP8 in blocks of {block[0]} × {block[1]}"
    return Quantiser(name, FP8, block, (companion,), powers_of_two=powers_of_two, chunks=chunks)


def fp4_groups(group: int = 32, *, dtype: Dtype, codes: str = "weight", scale: str, scale_dtype: Dtype) -> Quantiser:
    """FP4 (E2M1), two codes a byte, with one power of two for each group of a row: MXFP4."""
    companion = Companion(scale, (scale_dtype,), grid(1, group))
    return Quantiser("MXFP4", dtype, (1, group), (companion,), codes, packing=2, powers_of_two=True)


def nvfp4(group: int = 16, *, activations: bool = True) -> Quantiser:
    """ModelOpt's NVFP4: E2M1 codes, an E4M3 scale for each group of a row, and one F32 scale for the weight.

    `activations`: whether they are quantised, by a scale that has to be there; exports of weights alone may have one.
    """
    companions = (
        Companion("weight_scale", (FP8,), grid(1, group)),
        Companion("weight_scale_2", ("F32",), scalar, "tensor_scale"),
        Companion("input_scale", ("F32",), scalar, "input_scale", optional=not activations),
    )
    return Quantiser("NVFP4", "U8", (1, group), companions, packing=2)


def packed_nvfp4(group: int = 16, *, activations: bool = True) -> Quantiser:
    """compressed-tensors' NVFP4: ModelOpt's under other names, whose scales of a whole tensor divide."""
    companions = (
        Companion("weight_scale", (FP8,), grid(1, group)),
        Companion("weight_global_scale", ("F32",), lambda _: (1,), "tensor_scale", divides=True),
        Companion(
            "input_global_scale", ("F32",), lambda _: (1,), "input_scale", optional=not activations, divides=True
        ),
    )
    return Quantiser("NVFP4", "U8", (1, group), companions, codes="weight_packed", packing=2)


def packed_int(
    bits: int = 4, group: int = 32, dtypes: tuple[Dtype, ...] = ("BF16",), *, symmetric: bool = True
) -> Quantiser:
    """compressed-tensors' packed integers: codes of a row in an I32, a scale for each group, the unpacked shape."""
    packing = 32 // bits
    zeros = Companion(
        "weight_zero_point", ("I32",), lambda of: (ceil(of[-2] / packing), ceil(of[-1] / group)), "zero_point"
    )
    companions = (
        Companion("weight_scale", dtypes, grid(1, group)),
        Companion("weight_shape", ("I32", "I64"), lambda shape: (len(shape),), "shape"),
        *(() if symmetric else (zeros,)),
    )
    return Quantiser(f"INT{bits}", "I32", (1, group), companions, codes="weight_packed", packing=packing)


def packed_int4(group: int = 32, dtypes: tuple[Dtype, ...] = ("BF16",)) -> Quantiser:
    """compressed-tensors' packed INT4, symmetric."""
    return packed_int(4, group, dtypes)


# Rows and columns that no weight has more of: one scale for all of them.
WHOLE = 1 << 24


def fp8_tensor() -> Quantiser:
    """ModelOpt's FP8 (E4M3): one scale for a weight, and one for the activations that it meets."""
    companions = (
        Companion("weight_scale", ("F32",), scalar, "tensor_scale"),
        Companion("input_scale", ("F32",), scalar, "input_scale"),
    )
    return Quantiser("FP8 with a scale for each tensor", FP8, (WHOLE, WHOLE), companions)


def int8_blocks(block: tuple[int, int]) -> Quantiser:
    """I8 with one F32 scale, a multiplier, for each block of a weight, named as those of FP8."""
    return Quantiser("INT8 in blocks", "I8", block, (Companion("*_scale_inv", ("F32",), grid(*block)),))


def awq(group: int, dtypes: tuple[Dtype, ...], *, bits: int = 4) -> Quantiser:
    """AWQ's codes, (in, out) with those of neighbouring rows of the weight in one I32, offsets and scales of groups."""
    packing = 32 // bits
    companions = (
        Companion("qzeros", ("I32",), lambda of: (ceil(of[1] / group), ceil(of[0] / packing)), "zero_point"),
        Companion("scales", dtypes, lambda of: (ceil(of[1] / group), of[0])),
    )
    return Quantiser(
        "AWQ", "I32", (1, group), companions, "qweight", packing, layout=lambda of: (of[1], ceil(of[0] / packing))
    )


def gptq(group: int, dtypes: tuple[Dtype, ...], *, bits: int = 4) -> Quantiser:
    """GPTQ's codes, (in, out) with those of one row of the weight in one I32; the group of each column in g_idx."""
    companions = (
        Companion("qzeros", ("I32",), lambda of: (ceil(of[1] / group), ceil(of[0] * bits / 32)), "zero_point"),
        Companion("scales", dtypes, lambda of: (ceil(of[1] / group), of[0])),
        Companion("g_idx", ("I32",), lambda of: (of[1],), "order"),
    )
    return Quantiser(
        "GPTQ", "I32", (1, group), companions, "qweight", 32 // bits, layout=lambda of: (ceil(of[1] * bits / 32), of[0])
    )


SCALE_SUFFIX = "_scale_inv"
# What only an MTP module has; a layer behind the declared ones is one by these.
MTP_MARKS = (".eh_proj.weight", ".enorm.weight", ".hnorm.weight")


def scale_name(weight: str) -> str:
    """The name of a weight's block scale."""
    return weight + SCALE_SUFFIX


# Other spellings of block scales in the wild, by what stands in the place of `weight_scale_inv`.
OTHER_SCALES = ("weight_scale", "scale_inv", "scale", "scales", "weight_scales")
# Scales that are no block scales: of activations, or of a second level.
_FURTHER_SCALES = ("input_scale", "weight_scale_2", "weight_global_scale")


def is_scale(name: str) -> bool:
    """Whether a name is one of a scale, by the published convention or another known spelling."""
    return name.endswith(SCALE_SUFFIX) or name.rpartition(".")[2] in OTHER_SCALES + _FURTHER_SCALES


def other_scale_names(weight: str) -> Iterator[tuple[str, str]]:
    """Other spellings of a weight's scale, each with the name it makes."""
    stem = weight.removesuffix("weight")
    for spelling in OTHER_SCALES:
        yield spelling, stem + spelling
