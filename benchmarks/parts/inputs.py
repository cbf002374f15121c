"""Checkpoints that are large in one way each: what growth.py audits. Each function fills a folder; it gives options."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
PER_SHARD = 100_000


def _forged(folder: Path) -> None:
    from auditor.forge import forge

    forge(folder, like="tiny", sparse=True)


def _shards(folder: Path, names: Iterable[str], *, per_shard: int = PER_SHARD, index: bool = True) -> list[str]:
    """Shards of one byte for each name, beside a tiny checkpoint, and the index that places them there."""
    _forged(folder)
    document = json.loads((folder / INDEX).read_text())
    rest, files = list(names), []
    for number, begin in enumerate(range(0, len(rest), per_shard)):
        held = rest[begin : begin + per_shard]
        file = f"more-{number:05d}.safetensors"
        entries = (f'"{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{n},{n + 1}]}}' for n, name in enumerate(held))
        header = ('{"__metadata__":{"format":"pt"},' + ",".join(entries) + "}").encode()
        with (folder / file).open("wb") as out:
            out.write(len(header).to_bytes(8, "little") + header)
            out.truncate(8 + len(header) + len(held))
        document["weight_map"].update(dict.fromkeys(held, file))
        document["metadata"]["total_size"] += len(held)
        files.append(file)
    if index:
        (folder / INDEX).write_text(json.dumps(document))
    return files


def _random(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:24]


def sound(folder: Path, size: int) -> dict[str, Any]:
    """A sound release with ever more layers."""
    from headers import forged

    forged(folder, round(size / 1548) + 2)  # each layer but three, and the MTP module, has 1,548 tensors
    return {}


def unexpected(folder: Path, size: int) -> dict[str, Any]:
    """Tensors that follow from no config, numbered."""
    _shards(folder, (f"model.layers.{n // 1000}.extra.{n % 1000}.weight" for n in range(size)))
    return {}


def scattered(folder: Path, size: int) -> dict[str, Any]:
    """Tensors whose names have nothing in common: a pattern for each."""
    _shards(folder, (f"x.{_random(n)}" for n in range(size)))
    return {}


def sparse(folder: Path, size: int) -> dict[str, Any]:
    """Tensors whose numbers fold nowhere: every other one of many."""
    _shards(folder, (f"x.{n * 7919 % 1_000_003}.y.{n * 104_729 % 999_983}" for n in range(size)))
    return {}


def wide(folder: Path, size: int) -> dict[str, Any]:
    """Names of 510 bytes, with a number in every second."""
    tail = ".1" * 243
    _shards(folder, (f"{n:024d}{tail}" for n in range(size)), per_shard=50_000)
    return {}


def layers(folder: Path, size: int) -> dict[str, Any]:
    """A layer for each tensor, each marked as an MTP module."""
    _shards(folder, (f"model.layers.{3 * n + 10}.eh_proj.weight" for n in range(size)))
    return {}


def numbers(folder: Path, size: int) -> dict[str, Any]:
    """Names of eight numbers that fold nowhere."""
    _shards(folder, (".".join(str(int(digit) * 2) for digit in f"{n * 7919 % 99_999_989:08d}") for n in range(size)))
    return {}


def misplaced(folder: Path, size: int) -> dict[str, Any]:
    """An index that names for each tensor another shard than its own."""
    names = [f"model.layers.{n // 1000}.extra.{n % 1000}.weight" for n in range(size)]
    files = _shards(folder, names, per_shard=max(1, size // 10))
    document = json.loads((folder / INDEX).read_text())
    moved = dict(zip(files, [*files[1:], files[0]], strict=True))
    document["weight_map"] = {name: moved.get(file, file) for name, file in document["weight_map"].items()}
    (folder / INDEX).write_text(json.dumps(document))
    return {}


def findings(folder: Path, size: int) -> dict[str, Any]:
    """As many findings as tensors: each is misplaced from and to a pair of shards of its own."""
    names = [f"x.{_random(n)}" for n in range(size)]
    files = _shards(folder, names, per_shard=max(1, size // 1000))
    document = json.loads((folder / INDEX).read_text())
    document["weight_map"].update((name, files[n * 7919 % len(files)]) for n, name in enumerate(names))
    (folder / INDEX).write_text(json.dumps(document))
    return {}


def unindexed(folder: Path, size: int) -> dict[str, Any]:
    """Tensors that the index omits."""
    _shards(folder, (f"x.{_random(n)}" for n in range(size)), index=False)
    return {}


def missing(folder: Path, size: int) -> dict[str, Any]:
    """A release of ever more layers of which every second shard is gone."""
    sound(folder, size)
    for shard in sorted(folder.glob("*.safetensors"))[::2]:
        shard.unlink()
    return {}


def unscaled(folder: Path, size: int) -> dict[str, Any]:
    """FP8 weights of which not one has a scale."""
    _shards(folder, (f"model.layers.{n // 1000}.extra.{n % 1000}.weight" for n in range(size)))
    for shard in folder.glob("more-*"):
        data = shard.read_bytes().replace(b'"U8"', b'"F8_E4M3"')
        length = len(data) - 8 - data.count(b'"F8_E4M3"')
        shard.write_bytes(length.to_bytes(8, "little") + data[8:])
    return {}


def shards(folder: Path, size: int) -> dict[str, Any]:
    """Shards of fifty tensors each."""
    _shards(folder, (f"x.{_random(n)}" for n in range(size * 50)), per_shard=50)
    return {}


def headerless(folder: Path, size: int) -> dict[str, Any]:
    """Shards that are none, without an index."""
    _forged(folder)
    (folder / INDEX).unlink()
    for number in range(size):
        (folder / f"more-{number:05d}.safetensors").write_bytes(b"\xff" * 16)
    return {}


def waivers(folder: Path, size: int) -> dict[str, Any]:
    """Waivers of one tensor each, for as many unexpected tensors."""
    _shards(folder, (f"x.{_random(n)}" for n in range(size)))
    lines = (
        f'[[waivers]]\nrule = "NAM102"\ntensor = "x.{_random(n)}"\nreason = "x"\nexpires = 2999-01-01\n'
        for n in range(size)
    )
    (folder / "policy.toml").write_text("\n".join(lines))
    return {"policy": "policy.toml"}


def globs(folder: Path, size: int) -> dict[str, Any]:
    """A hundred waivers with stars, for ever more unexpected tensors."""
    _shards(folder, (f"x.{_random(n)}" for n in range(size)))
    lines = (
        f'[[waivers]]\nrule = "NAM102"\ntensor = "*.{n:02x}*"\nreason = "x"\nexpires = 2999-01-01\n' for n in range(100)
    )
    (folder / "policy.toml").write_text("\n".join(lines))
    return {"policy": "policy.toml"}


def known(folder: Path, size: int) -> dict[str, Any]:
    """A baseline that has every finding."""
    findings(folder, size)
    return {"baseline": True}
