"""Probes of a small checkpoint by the slowest and plainest means: numpy, torch's own float8 casts, whole files.

What the rules are tested with on forged content, apart from the auditor's own readers. Digests are SHA-256 here:
rules compare them and nothing else.
"""

import hashlib
import json
import struct
from itertools import pairwise
from math import ceil, floor, log2
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace

from auditor.content.probes import Probes
from auditor.content.values import (
    BlockNote,
    BlockValues,
    Position,
    RowValues,
    ScaleValues,
    ShardValues,
    TensorValues,
    Texture,
)
from auditor.families.configure import configure
from auditor.inventory.facts import ConfigFile
from auditor_schemas.policy import Limits

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
    read = configure(ConfigFile("read", (directory / "config.json").read_bytes()), Limits())
    rows = {} if read.family is None or read.config is None else read.family.expectations(read.config).names
    roles = {name: row.role for name, row in rows.items()}
    shards = []
    for path in files:
        tensors = tuple(
            replace(_values(name, path.name, every, powers), role=roles.get(name)) for name in stored[path.name]
        )
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
        **_looks(name, every),
    )


def _looks(name: str, every: dict) -> dict:
    """What bytes look like: strips, pages, rows, exponents, and the texture of codes."""
    dtype, shape, data, begin = every[name]
    height = BLOCK * len(data) // shape[0] if len(shape) > 1 else len(data)
    bands = b""
    for at in range(0, len(data), height):
        strip = data[at : at + height]
        signs = {each >> 7 for each in strip} if dtype == "F8_E4M3" else {0, 1}
        told = len(signs) == 2 and strip.strip(b"\0")
        bands += hashlib.sha256(strip).digest()[:8] if told else bytes(8)
    looks: dict = {"bands": bands}
    if name.endswith("_scale_inv"):
        return looks
    vocabulary = name.endswith(("embed_tokens.weight", "head.weight"))
    if len(shape) > 1 and not vocabulary:
        pages = [
            (at, data[at - begin : at - begin + 4096])
            for at in range(-(-begin // 4096) * 4096, begin + len(data) - 4095, 4096)
        ]
        doubled = [at for (_, one), (at, other) in pairwise(pages) if one == other and len(set(one)) > 1]
        first = Position(doubled[0] - begin, doubled[0], doubled[0] + 4096, "") if doubled else None
        looks |= {"doubled_pages": len(doubled), "first_doubled": first}
    if dtype == "F8_E4M3":
        if f"{name}_scale_inv" in every:
            looks["texture"] = _texture(name, every)
        return looks
    values = _floats(dtype, shape, data).reshape(-1)
    usual = values[np.isfinite(values) & (np.abs(values) >= TINY)]
    counted = np.unique(np.frexp(usual)[1] - 1, return_counts=True)
    looks["exponents"] = dict(zip(*(each.tolist() for each in counted), strict=True))
    if len(shape) > 1:
        rows = [data[at : at + len(data) // shape[0]] for at in range(0, len(data), len(data) // shape[0])]
        filled = [row for row in rows if row.strip(b"\0")]
        doubled_rows = len(filled) - len(set(filled)) if vocabulary else 0
        looks["matrix"] = RowValues(len(rows), len(rows) - len(filled), doubled_rows)
    return looks


def _texture(name: str, every: dict) -> Texture:
    _, (rows, columns), data, begin = every[name]
    _, _, raw, _ = every[f"{name}_scale_inv"]
    codes = np.frombuffer(data, np.uint8).reshape(rows, columns)
    grid = np.frombuffer(raw, "<f4").reshape(ceil(rows / BLOCK), -1)
    longest: dict[str, tuple[int, int]] = {"zero": (0, 0), "sign": (0, 0)}
    present = {"zero": 0, "sign": 0}
    for row in range(rows):
        for left in range(0, columns - 63, 64):
            chunk = codes[row, left : left + 64]
            block = codes[row // BLOCK * BLOCK :, left // BLOCK * BLOCK :][:BLOCK, :BLOCK]
            counted = grid[row // BLOCK, left // BLOCK] > LEAST / LARGEST * 2.5 and (block & 0x7F).any()
            alike = counted and len({each >> 7 for each in chunk.tolist()}) == 1
            for kind in present:
                wanted = alike and (kind == "zero") != bool((chunk & 0x7F).any())
                present[kind] = present[kind] + 1 if wanted else 0
                if present[kind] > longest[kind][0]:
                    longest[kind] = present[kind], row * columns + left - 64 * (present[kind] - 1)
    firsts = {
        kind: Position(at, begin + at, begin + at + 64 * chunks, f"{64 * chunks:,} codes") if chunks else None
        for kind, (chunks, at) in longest.items()
    }
    worst, many, first = 0.0, 0, None
    for page in range(begin - begin % 4096, begin + len(data), 4096):
        low, high = max(page, begin), min(page + 4096, begin + len(data))
        part = np.frombuffer(data[low - begin : high - begin], np.uint8) & 0x7F
        if part.size < 2048:
            continue
        share = float(((part < 0x20) & (part > 0)).mean())
        if share > 1 / 16 and np.bincount(part >> 4, minlength=8).min() < part.size / 32:
            continue
        many += share > 1 / 8
        if share > worst:
            worst, first = share, Position(low - begin, low, high, f"{100 * share:.1f} %")
    return Texture(
        pages=-(-(begin + len(data)) // 4096) - begin // 4096,
        small=worst,
        small_pages=many,
        zero_run=64 * longest["zero"][0],
        sign_run=64 * longest["sign"][0],
        first_small=first,
        first_zeros=firsts["zero"],
        first_sign=firsts["sign"],
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
        smallest=_position(np.flatnonzero(positive & (flat == sound.min())), flat, begin, 4) if sound.size else None,
        f16=int((positive & (flat.astype(np.float16).astype(np.float32) == flat)).sum()),
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
