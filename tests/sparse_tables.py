"""Tables of published header dumps, and sparse checkpoints written from them or from any list of tensors.

Written apart from the code under test: neither the forge nor a family has a part in it.
"""

import json
from collections.abc import Mapping
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
TABLES = sorted(path.name.removeprefix("inventory.").removesuffix(".tsv") for path in DATA.glob("inventory.*.tsv"))

_BITS = {"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U8": 8, "I8": 8, "BOOL": 8, "BF16": 16, "F16": 16, "F4": 4}

Kind = tuple[str, tuple[int, ...]]
Tensors = dict[str, Kind]


def numbers_of(run: str) -> list[int]:
    """'0-2,6' is 0, 1, 2 and 6."""
    numbers: list[int] = []
    for piece in run.split(","):
        first, _, last = piece.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def names_of(pattern: str) -> list[str]:
    """Every name that a pattern stands for."""
    texts = [pattern]
    runs: list[list[int]] = []
    while "{" in texts[-1]:
        before, _, rest = texts.pop().partition("{")
        run, _, after = rest.partition("}")
        runs.append(numbers_of(run))
        texts += [before, after]
    return [
        "".join(f"{text}{number}" for text, number in zip(texts, (*numbers, ""), strict=True))
        for numbers in product(*runs)
    ]


def table(name: str) -> Tensors:
    """The tensors of a table in tests/data."""
    found: Tensors = {}
    for line in (DATA / f"inventory.{name}.tsv").read_text("utf-8").splitlines()[1:]:
        pattern, sizes, dtype, _ = line.split("\t")
        shape = () if sizes == "scalar" else tuple(map(int, sizes.split("x")))
        found.update(dict.fromkeys(names_of(pattern), (dtype, shape)))
    return found


def config(name: str) -> dict[str, Any] | None:
    """The config.json in tests/data, where there is one."""
    path = DATA / f"config.{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def size_of(kind: Kind) -> int:
    """The bytes that a tensor takes."""
    dtype, shape = kind
    return -(-prod(shape) * _BITS.get(dtype, 64 if dtype.endswith("64") else 32) // 8)


def write_sparse(
    directory: Path, tensors: Mapping[str, Kind], *, config: object = None, per_shard: int = 20_000
) -> Path:
    """Write a checkpoint whose tensor data are holes; with an index where there is more than one shard."""
    directory.mkdir(parents=True)
    names = sorted(tensors)
    cuts = [names[at : at + per_shard] for at in range(0, len(names), per_shard)]
    files = [
        "model.safetensors" if len(cuts) == 1 else f"model-{number:05d}-of-{len(cuts):05d}.safetensors"
        for number in range(1, len(cuts) + 1)
    ]
    total = 0
    for file, held in zip(files, cuts, strict=True):
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name in held:
            begin, end = end, end + size_of(tensors[name])
            dtype, shape = tensors[name]
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        raw = json.dumps(header, separators=(",", ":")).encode()
        with (directory / file).open("wb") as out:
            out.write(len(raw).to_bytes(8, "little") + raw)
            out.truncate(8 + len(raw) + end)
        total += end
    if len(cuts) > 1:
        places = {name: file for file, held in zip(files, cuts, strict=True) for name in held}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    if config is not None:
        (directory / "config.json").write_text(json.dumps(config), "utf-8")
    return directory
