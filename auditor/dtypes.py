"""The dtypes of the safetensors format, with their sizes. Source: the safetensors format description."""

from typing import Literal, get_args

Dtype = Literal[
    "BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16", "U16", "F16", "BF16",
    "I32", "U32", "F32", "F64", "I64", "U64", "C64",
]  # fmt: skip

DTYPES: tuple[str, ...] = get_args(Dtype)

# Sub-byte dtypes (F4, F6) pack several elements in a byte; no DeepSeek-V3 layout uses them, so they are
# reported as unknown rather than sized wrongly.
BYTES: dict[str, int] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8, "C64": 8,
}  # fmt: skip

FP8: Dtype = "F8_E4M3"
FLOATS = frozenset({"F16", "BF16", "F32", "F64"})

# What an export that lost its quantisation stores instead of FP8: floats, or packed codes of fewer bits.
QUANTISABLE = FLOATS | {"U8", "I8", "F8_E5M2", "I32", "U32"}

FROM_TORCH: dict[str, Dtype] = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
