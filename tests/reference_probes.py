"""Probes of a small checkpoint by the slowest and plainest means: numpy, torch's own float8 casts, whole files.

What the rules are tested with on forged content, apart from the auditor's own readers. Digests are SHA-256 here:
rules compare them and nothing else.
"""

import hashlib
import json
import struct
from math import ceil, floor, log2
from pathlib import Path

import numpy as np
import torch

from auditor.content.probes import BlockNote, BlockValues, Position, Probes, ScaleValues, ShardValues, TensorValues

torch.set_num_threads(1)  # blocks are small

BLOCK = 128
LARGEST = np.float32(448)
LEAST = np.float32(1e-4)
TINY = np.finfo(np.float32).tiny


def probes(directory: Path) -> Probes:
    """Everything that depth full is to know of a checkpoint."""
    config = json.loads((directory / "config.json").read_text())
    quantization = config.get("quantization_config") or {}
    powers = quantization.get("scale_fmt") == "ue8m0"
    files = sorted(directory.glob("*.safetensors"))
    stored = {path.name: _stored(path) for path in files}
    every = {name: each for tensors in stored.values() for name, each in tensors.items()}
    shards = []
    for path in files:
        tensors = tuple(_values(name, path.name, every, powers) for name in stored[path.name])
        data = path.read_bytes()
        shards.append(
            ShardValues(
                file=path.name,
                size=len(data),
                tensors=tensors,
                bytes_read=sum(len(each[2]) for each in stored[path.name].values()),
                zero_tail=len(data) - len(data.rstrip(b"\0")),
            )
        )
    return Probes(depth="full", seed=0, device="cpu", shards=tuple(shards), powers_of_two=powers)


def _stored(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes, int]]:
    """Each tensor's dtype, shape, bytes, and where they begin in the file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = (entry["dtype"], tuple(entry["shape"]), data[begin:end], begin)
    return tensors


def _floats(dtype: str, shape: tuple[int, ...], data: bytes) -> np.ndarray:
    kind = {"F8_E4M3": torch.float8_e4m3fn, "BF16": torch.bfloat16, "F32": torch.float32}[dtype]
    return torch.frombuffer(bytearray(data), dtype=kind).float().reshape(shape).numpy()


def _values(name: str, file: str, every: dict, powers: bool) -> TensorValues:
    dtype, shape, data, begin = every[name]
    values = _floats(dtype, shape, data)
    flat = values.reshape(-1)
    size = len(data) // flat.size
    finite = flat[np.isfinite(flat)]
    odd = np.flatnonzero(~np.isfinite(flat))
    scales = _scales(values, begin) if name.endswith("_scale_inv") else None
    return TensorValues(
        name=name,
        file=file,
        dtype=dtype,
        shape=shape,
        elements=flat.size,
        read=flat.size,
        nan=int(np.isnan(flat).sum()),
        infinite=int(np.isinf(flat).sum()),
        zeros=int((flat == 0).sum()),
        minimum=float(finite.min()) if finite.size else None,
        maximum=float(finite.max()) if finite.size else None,
        constant=data == data[:size] * flat.size,
        e4m3=dtype != "F8_E4M3"
        and bool((torch.from_numpy(flat).to(torch.float8_e4m3fn).float().numpy() == flat).all()),
        xxh3=hashlib.sha256(data).hexdigest(),
        first_nonfinite=_position(odd, flat, begin, size),
        blocks=_blocks(name, every, powers) if dtype == "F8_E4M3" and f"{name}_scale_inv" in every else None,
        scales=scales,
    )


def _position(places: np.ndarray, flat: np.ndarray, begin: int, size: int) -> Position | None:
    if not places.size:
        return None
    first = int(places[0])
    return Position(first, begin + first * size, begin + (first + 1) * size, f"{flat[first]:.6g}")


def _scales(grid: np.ndarray, begin: int) -> ScaleValues:
    flat = grid.reshape(-1)
    finite, magnitude = np.isfinite(flat), np.abs(flat)
    positive = finite & (flat > 0)
    powers = positive & (np.frexp(flat)[0] == 0.5)
    kinds = {
        "nan": np.isnan(flat),
        "infinite": np.isinf(flat),
        "zero": flat == 0,
        "negative": finite & (flat < 0),
        "subnormal": positive & (magnitude < TINY),
        "not_power_of_two": positive & ~powers,
    }
    firsts = {kind: _position(np.flatnonzero(mask), flat, begin, 4) for kind, mask in kinds.items()}
    exponents: dict[int, int] = {}
    for value in flat[positive].tolist():
        exponents[floor(log2(value))] = exponents.get(floor(log2(value)), 0) + 1
    sound = flat[finite]
    largest = np.flatnonzero(finite & (flat == sound.max())) if sound.size else np.array([], int)
    return ScaleValues(
        values=flat.size,
        columns=grid.shape[-1],
        **{kind: int(mask.sum()) for kind, mask in kinds.items() if kind != "not_power_of_two"},
        powers_of_two=int(powers.sum()),
        bf16=int((positive & ((flat.view("<u4") & 0xFFFF) == 0)).sum()),
        clamped=int((flat == LEAST / LARGEST).sum()),
        minimum=float(sound.min()) if sound.size else None,
        median=float(np.median(sound)) if sound.size else None,
        maximum=float(sound.max()) if sound.size else None,
        exponents=exponents,
        first={kind: place for kind, place in firsts.items() if place is not None},
        largest=_position(largest, flat, begin, 4),
    )


def _blocks(name: str, every: dict, powers: bool) -> BlockValues:
    """Block by block: dequantise, quantise again, compare."""
    _, (rows, columns), data, begin = every[name]
    codes = np.frombuffer(data, np.uint8).reshape(rows, columns)
    _, shape, raw, _ = every[f"{name}_scale_inv"]
    grid = np.frombuffer(raw, "<f4").reshape(shape)
    counts = dict.fromkeys(
        (
            "zero",
            "exact",
            "value_equal",
            "changed",
            "undefined",
            "overflowing",
            "drifted",
            "foreign",
            "unsaturated",
            "narrow",
        ),
        0,
    )
    largest: dict[int, int] = {}
    firsts: dict[str, BlockNote] = {}
    worst = 0.0
    for row in range(ceil(rows / BLOCK)):
        for column in range(ceil(columns / BLOCK)):
            block = codes[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK]
            most = int((block & 0x7F).max())
            scale = grid[row, column]
            outcome, codes_survive, error = _round_trip(block, scale, powers)
            counts[outcome] += 1
            counts["zero"] += most == 0
            largest[most] = largest.get(most, 0) + 1
            foreign = outcome in ("value_equal", "changed") and not _left(most, scale, powers)
            counts["foreign"] += foreign
            narrow = foreign and _left_within_240(most, scale)
            counts["narrow"] += narrow
            overflowing = outcome == "undefined" and most != 0x7F and bool(np.isfinite(scale))
            overflowing = overflowing and scale != 0
            counts["overflowing"] += overflowing
            counts["drifted"] += outcome == "changed" and codes_survive
            counts["unsaturated"] += foreign and (most < 0x76 if powers else most != 0x7E)
            worst = max(worst, error)
            strip = (begin + row * BLOCK * columns, begin + min((row + 1) * BLOCK, rows) * columns)
            note = BlockNote(row, column, float(scale), most, error, *strip)
            for kind, holds in (
                ("first_nan", most == 0x7F),
                ("first_overflowing", overflowing),
                ("first_changed", outcome == "changed"),
                ("first_foreign", foreign),
                ("first_other", foreign and not narrow),
            ):
                if holds:
                    firsts.setdefault(kind, note)
    return BlockValues(blocks=sum(largest.values()), largest=largest, error=worst, **counts, **firsts)


def _left(most: int, scale: np.float32, powers: bool) -> bool:
    """Whether a quantiser leaves such a block: by amax, with and without a clamp, or rounded up to a power of two."""
    if scale < TINY:
        return False
    if np.frexp(scale)[0] == 0.5 and (most >= 0x76 or scale == 2.0**-22):
        return True
    if powers:
        return False
    clamp = LEAST / LARGEST
    at_clamp = np.nextafter(clamp, np.float32(0)) <= scale <= np.nextafter(clamp, np.float32(1))
    return bool(at_clamp or most == 0x7E or (most == 0 and (scale < clamp or scale == 1)))


def _left_within_240(most: int, scale: np.float32) -> bool:
    if scale < TINY or most > 0x77:
        return False
    return bool(scale <= 2.0**-21 or most >= (0x6E if np.frexp(scale)[0] == 0.5 else 0x76))


def _round_trip(codes: np.ndarray, scale: np.float32, powers: bool) -> tuple[str, bool, float]:
    if ((codes & 0x7F) == 0x7F).any() or not np.isfinite(scale) or scale == 0:
        return "undefined", False, 0.0
    with np.errstate(over="ignore"):
        values = _decoded(codes) * scale
    if not np.isfinite(values).all():
        return "undefined", False, 0.0
    again = np.maximum(np.abs(values).max(), LEAST) / LARGEST
    if powers:
        again = np.float32(2.0 ** ceil(log2(again)))
    clipped = np.clip(values / again, -LARGEST, LARGEST)
    recoded = torch.from_numpy(clipped).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    revalued = _decoded(recoded) * again
    survive = bool((recoded == codes).all())
    if survive and again == scale:
        return "exact", True, 0.0
    if (revalued == values).all():
        return "value_equal", survive, 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(revalued - values) / np.abs(values)
    return "changed", survive, float(np.nanmax(error[np.isfinite(error)], initial=0.0))


def _decoded(codes: np.ndarray) -> np.ndarray:
    return torch.from_numpy(codes.copy()).view(torch.float8_e4m3fn).float().numpy()
