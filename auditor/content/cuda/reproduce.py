"""The round trip of blocks code by code, in torch: what `kernels.roundtrip.reproduce` computes, bit for bit.

Each operation is one of float32 that rounds once, as the processor's: torch neither fuses nor flushes them. Shapes: n
is the blocks, c the 128 magnitudes of E4M3's codes.
"""

import numpy as np
import numpy.typing as npt
import torch

from auditor.content.device import Bytes, Reproduced
from auditor.content.fp8 import decode_table
from auditor.content.kernels import roundtrip

_BATCH = 512  # blocks at once: their codes as indices take 64 MiB


def reproduce(
    strip: Bytes,
    columns: int,
    block: tuple[int, int],
    where_rc: npt.NDArray[np.bool_],
    scale_rc: npt.NDArray[np.float32],
    rounding: int,
    *,
    device: torch.device,
) -> Reproduced:
    """The outcome, largest error and survival of the blocks of a strip (R × C codes) that `where_rc` marks."""
    outcome_rc = np.full(where_rc.shape, -1, np.int8)
    error_rc, survives_rc = np.zeros(where_rc.shape), np.zeros(where_rc.shape, np.bool_)
    code_RC = torch.from_numpy(strip.reshape(-1, columns))
    places = np.argwhere(where_rc)
    for begin in range(0, len(places), _BATCH):
        some = places[begin : begin + _BATCH]
        code_nk = torch.zeros((len(some), block[0] * block[1]), dtype=torch.uint8)
        for k, (r, c) in enumerate(some.tolist()):
            codes = code_RC[r * block[0] : (r + 1) * block[0], c * block[1] : (c + 1) * block[1]]
            code_nk[k, : codes.numel()] = codes.flatten()  # where a block is smaller, ±0 stands behind it
        at = (some[:, 0], some[:, 1])
        scale_n = torch.from_numpy(scale_rc[at]).to(device)
        found = _round_trip(code_nk.to(device), scale_n, rounding)
        outcome_rc[at], error_rc[at], survives_rc[at] = (each.cpu().numpy() for each in found)
    return Reproduced(outcome_rc, error_rc, survives_rc)


def _round_trip(
    code_nk: torch.Tensor, scale_n: torch.Tensor, rounding: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    magnitude_c = torch.from_numpy(decode_table()[:128].copy()).to(code_nk.device)
    present_nc = torch.zeros((len(code_nk), 128), dtype=torch.bool, device=code_nk.device)
    present_nc.scatter_(1, (code_nk & 127).long(), True)
    numbers = torch.arange(127, device=code_nk.device)
    largest_n = torch.where(present_nc[:, :127], numbers, 0).amax(1)
    size_n = scale_n.abs()
    amax_n = magnitude_c[largest_n] * size_n
    undefined_n = present_nc[:, 127] | ~amax_n.isfinite() | ~size_n.isfinite()
    least = torch.tensor(1e-4, dtype=torch.float32, device=code_nk.device)
    again_n = _rounded(torch.maximum(amax_n, least) / 448, rounding)
    before_nc = magnitude_c * size_n[:, None]
    encoded_nc = _encoded(before_nc / again_n[:, None])
    after_nc = magnitude_c[encoded_nc] * again_n[:, None]
    looked_nc = present_nc & (torch.arange(128, device=code_nk.device) <= largest_n[:, None])
    looked_nc[:, 0] = False
    negative_n = scale_n.view(torch.int32) < 0
    survives_n = ~negative_n & ~(looked_nc & (encoded_nc != torch.arange(128, device=code_nk.device))).any(1)
    moved_nc = looked_nc & (after_nc != before_nc)
    before, after = before_nc.double(), after_nc.double()
    error_n = torch.where(moved_nc, (after - before).abs() / before, 0.0).amax(1)
    changed_n = moved_nc.any(1)
    same_n = survives_n & (again_n.view(torch.int32) == scale_n.view(torch.int32))
    outcome_n = torch.where(same_n, roundtrip.EXACT, roundtrip.VALUE_EQUAL)
    outcome_n = torch.where(changed_n, roundtrip.CHANGED, outcome_n)
    outcome_n = torch.where(undefined_n, roundtrip.UNDEFINED, outcome_n)
    error_n = torch.where(changed_n & ~undefined_n, error_n, 0.0)
    return outcome_n.to(torch.int8), error_n, survives_n & ~undefined_n


def _rounded(scale_n: torch.Tensor, rounding: int) -> torch.Tensor:
    """Scales as the formula's quotient is stored."""
    if rounding == roundtrip.FLOAT32:
        return scale_n
    if rounding == roundtrip.BF16:
        return scale_n.bfloat16().float()
    bits_n = scale_n.view(torch.int32)
    exponent_n = (bits_n >> 23) + ((bits_n & 0x7FFFFF) != 0)
    return (exponent_n << 23).view(torch.float32)


def _encoded(value_nc: torch.Tensor) -> torch.Tensor:
    """The E4M3 codes of numbers that are not negative: to nearest, ties to even, saturating; NaN is 0x7F."""
    small_nc = torch.round(value_nc * 512).nan_to_num(127.0, posinf=127.0).clamp(max=127).long()
    bits_nc = value_nc.view(torch.int32).long()
    large_nc = (((bits_nc + 0x7FFFF + ((bits_nc >> 20) & 1)) >> 20) - (120 << 3)).clamp(max=126)
    code_nc = torch.where(value_nc < 2.0**-6, small_nc, large_nc)
    return torch.where(value_nc.isnan(), 127, code_nc)
