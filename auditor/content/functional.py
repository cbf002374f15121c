"""The FP8 format at work: dynamically quantised activations times an FP8 weight, against the float32 product.

Serving quantises activations online, for each token over the channels of one weight block (128), and multiplies
codes with codes, adding up in float32. Here the same is done with random activations, and its result compared
with the product of unquantised activations and the dequantised weight. Both use the scales that are stored, so
this measures the format, not damage: a wrong scale is wrong in both.

In shapes, T are tokens, R and C a weight's rows and columns, r and c its blocks, G groups of channels (as many as c).
"""

import hashlib
from collections.abc import Iterator
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from auditor.content.device import Bytes
from auditor.content.fp8 import block_scales, decode_table, quantise
from auditor.content.probes import Functional

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float32]

# E4M3 keeps three bits behind the leading one, so rounding moves a value in [1, 2) by at most 2^-4, evenly spread:
# 2^-4 / √3 = 3.61 % in the root mean square of a value of 1, the worst that a whole binade can hold, and less the
# larger the value. Errors of single activations are independent, so a product's relative error in the Frobenius
# norm is that of the activations: 2.6 % for normal ones (measured), below 3.61 % for whatever distribution, up to the
# scatter of a sample. Only values below 2^-6 / 448 of their group's largest round more coarsely, which adds nothing
# to a norm.
TOLERANCE = 2.0**-4 / 3.0**0.5

_ELEMENTS = 1 << 20  # of a weight, dequantised together


def check(
    name: str,
    codes_RC: Bytes,
    scale_rc: Floats,
    block: tuple[int, int],
    *,
    seed: int,
    tokens: int = 16,
    device: str = "cpu",
) -> Functional:
    """Multiply seeded random activations with a weight, or with a strip of its rows that begins with a block.

    `device` is 'cpu' or one that torch knows, such as 'cuda'. The relative error is NaN where a code is NaN or a
    scale no number, and where a product leaves float32.
    """
    rows, columns = codes_RC.shape
    activation_TC = activations(name, tokens, columns, seed)
    squares = [0.0, 0.0]
    both = _on_torch if device != "cpu" else _on_cpu
    with np.errstate(all="ignore"):  # what cannot be computed is said by the result
        for quantised_TR, exact_TR in both(activation_TC, codes_RC, scale_rc, block, device):
            difference_TR = quantised_TR.astype(np.float64) - exact_TR
            squares[0] += float(np.square(difference_TR).sum())
            squares[1] += float(np.square(exact_TR, dtype=np.float64).sum())
    return Functional(
        tensor=name,
        tokens=tokens,
        rows=rows,
        device=_name(device),
        relative_error=_ratio(*squares),
        tolerance=TOLERANCE,
    )


def activations(name: str, tokens: int, columns: int, seed: int) -> Floats:
    """Standard normal activations (T × C), the same for a seed and a tensor's name."""
    key = np.frombuffer(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:16], "<u4")
    random = np.random.default_rng([seed, *key.tolist()])
    return random.standard_normal((tokens, columns), dtype=np.float32)


def products(
    activation_TC: Floats,
    codes_RC: Bytes,
    scale_rc: Floats,
    block: tuple[int, int],
) -> tuple[Floats, Floats]:
    """T × R: activations quantised for each token and group, times codes, scaled and added up; and the exact product.

    Group by group, so that what is decoded stays in the processor's cache.
    """
    width = block[1]
    scale_TG = block_scales(activation_TC, (1, width))
    table = decode_table()
    values_TC = table[quantise(activation_TC, scale_TG, (1, width))]
    scale_Rc = np.repeat(scale_rc, block[0], axis=0)[: codes_RC.shape[0]]
    quantised_TR = np.zeros((activation_TC.shape[0], codes_RC.shape[0]), np.float32)
    exact_TR = np.zeros_like(quantised_TR)
    for group in range(scale_rc.shape[1]):
        channels = slice(group * width, (group + 1) * width)
        decoded = table[codes_RC[:, channels]]
        partial_TR = values_TC[:, channels] @ decoded.T
        quantised_TR += partial_TR * scale_TG[:, group, None] * scale_Rc[None, :, group]
        exact_TR += activation_TC[:, channels] @ (decoded * scale_Rc[:, group, None]).T
    return quantised_TR, exact_TR


def _on_cpu(
    activation_TC: Floats,
    codes_RC: Bytes,
    scale_rc: Floats,
    block: tuple[int, int],
    _device: str,
) -> Iterator[tuple[Floats, Floats]]:
    for codes, scales in _strips(codes_RC, scale_rc, block):
        yield products(activation_TC, codes, scales, block)


def _on_torch(
    activation_TC: Floats,
    codes_RC: Bytes,
    scale_rc: Floats,
    block: tuple[int, int],
    device: str,
) -> Iterator[tuple[Floats, Floats]]:
    """The same by torch and its own float8 casts.

    Without its matrix product, whose precision is a setting of the whole process (TF32).
    """
    import torch

    width = block[1]
    activation = torch.from_numpy(activation_TC).to(device)
    quantised, scale_TG = _quantise(activation, width)
    for codes, scales in _strips(codes_RC, scale_rc, block):
        stored = torch.from_numpy(np.ascontiguousarray(codes)).to(device).view(torch.float8_e4m3fn).float()
        scale_Rc = torch.from_numpy(np.repeat(scales, block[0], axis=0)[: codes.shape[0]]).to(device)
        total = torch.zeros((activation.shape[0], codes.shape[0]), dtype=torch.float32, device=device)
        exact = torch.zeros_like(total)
        for group in range(scale_Rc.shape[1]):
            channels = slice(group * width, (group + 1) * width)
            decoded = stored[:, channels]
            partial = _product(quantised[:, channels], decoded)
            total += partial * scale_TG[:, group, None] * scale_Rc[None, :, group]
            exact += _product(activation[:, channels], decoded * scale_Rc[:, group, None])
        yield total.cpu().numpy(), exact.cpu().numpy()


def _product(one: "torch.Tensor", other: "torch.Tensor") -> "torch.Tensor":
    return (one[:, None] * other).sum(dim=2)


def _quantise(activation: "torch.Tensor", width: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """Codes of activations as values (T × C), and their scales (T × G)."""
    import torch

    groups = torch.split(activation, width, dim=1)
    amax_TG = torch.stack([group.abs().amax(dim=1) for group in groups], dim=1).clamp(min=1e-4)
    scale_TG = amax_TG / 448
    spread = scale_TG.repeat_interleave(width, dim=1)[:, : activation.shape[1]]
    return (activation / spread).to(torch.float8_e4m3fn).float(), scale_TG


def _strips(codes_RC: Bytes, scale_rc: Floats, block: tuple[int, int]) -> Iterator[tuple[Bytes, Floats]]:
    """Rows of blocks, so many together that memory stays bounded."""
    rows, columns = codes_RC.shape
    high = max(1, _ELEMENTS // (block[0] * max(1, columns)))
    for first in range(0, scale_rc.shape[0], high):
        top = first * block[0]
        if top < rows:
            yield codes_RC[top : (first + high) * block[0]], scale_rc[first : first + high]


def _ratio(difference: float, size: float) -> float:
    if not (isfinite(difference) and isfinite(size)):
        return float("nan")
    if size == 0:
        return 0.0 if difference == 0 else float("nan")
    return float((difference / size) ** 0.5)


def _name(device: str) -> str:
    if device == "cpu":
        return device
    import torch

    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device
