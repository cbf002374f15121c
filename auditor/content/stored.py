"""Scales as they are stored, in any dtype, as float32; needs no kernels."""

from typing import Any

import numpy as np

from auditor.content.formats import CODE_DTYPES
from auditor.content.fp8 import Floats, decode_table
from auditor.format.dtypes import FP8

_BIAS = 127


def as_floats(data: Any, dtype: str) -> Floats:
    """Scales stored in one of SCALE_DTYPES, or as codes, as float32, which holds all of them but F64's exactly.

    U8 are the exponents that F8_E8M0 has.
    """
    if dtype == "F32":
        return np.frombuffer(data, np.float32)
    if dtype == "BF16":
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype in CODES:
        return CODES[dtype][np.frombuffer(data, np.uint8)]
    with np.errstate(over="ignore"):  # infinite as float32: no scale either way
        return np.frombuffer(data, np.float16 if dtype == "F16" else np.float64).astype(np.float32)


def _exponents() -> Floats:
    """The powers of two that the codes of E8M0 stand for, from 2^-127 on; 0xFF is NaN."""
    powers = np.ldexp(np.float32(1), np.arange(255) - _BIAS)
    return np.append(powers, np.float32(np.nan))


_E8M0 = _exponents()
CODES = {dtype: decode_table() if dtype == FP8 else _E8M0 for dtype in CODE_DTYPES}
