"""The dtypes of the safetensors format, with their sizes. Source: the safetensors format description and 0.8.0."""

from typing import Literal, get_args

Dtype = Literal[
    "BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16", "U16", "F16", "BF16",
    "I32", "U32", "F32", "F64", "I64", "U64", "C64", "F4", "F6_E2M3", "F6_E3M2",
]  # fmt: skip

DTYPES: tuple[str, ...] = get_args(Dtype)

# F4 and F6 pack several elements into a byte, so that sizes are counted in bits.
BITS: dict[str, int] = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64,
}  # fmt: skip

FP8: Dtype = "F8_E4M3"
FLOATS = frozenset({"F16", "BF16", "F32", "F64"})

# What an export that lost its quantisation stores instead of FP8: floats, or packed codes of fewer bits.
QUANTISABLE = FLOATS | {"U8", "I8", "F8_E5M2", "I32", "U32"}

FROM_TORCH: dict[str, Dtype] = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


def packed_bytes(dtype: str, elements: int) -> int:
    """The bytes that so many elements take; one that ends inside a byte takes it whole."""
    return -(-elements * BITS[dtype] // 8)
