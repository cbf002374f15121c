"""Files that come, go, move and turn into links beside a sound checkpoint: what passes is what loaders would read.

Which files transformers and vLLM take is worked out here from their published order of preference, apart from the
auditor: a pass on other files than these, or on files that do not hold the checkpoint, is wrong.
"""

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auditor import audit
from auditor.forge import forge
from auditor_schemas.report import AuditReport
from tests.fuzz.benches.checkpoints import contradiction, named
from tests.fuzz.running import Outcome
from tests.fuzz.truth import CONFIG, INDEX, facts_of

SINGLE = "model.safetensors"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4096\n"
STRAYS = (
    SINGLE, "consolidated.safetensors", "consolidated.safetensors.index.json", "pytorch_model.bin", "pytorch_model.pt",
    "pytorch_model.bin.index.json", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json",
    "model-00001-of-000005.safetensors.aria2", "model-00002-of-000005.safetensors.incomplete", "tf_model.h5",
    "._model-00001-of-000005.safetensors", "._config.json", "model.safetensors.index.fp8.json", "other.safetensors",
    "model-00001-of-000003.safetensors", "Model-00001-of-000005.safetensors", "original", ".DS_Store", "weights.gguf",
    "model-00006-of-000005.safetensors", "model_00001.safetensors", "hf_quant_config.json", "a\x1b[31mb.safetensors",
    "\u202egnp.safetensors", "generation_config.json", "tokenizer.model", "model-00001-of-000005.safetensors.part",
)  # fmt: skip


class Bench:
    """A folder made anew for each case out of hard links to a sound one."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.sound = folder / "sound"
        forge(self.sound, like="tiny", sparse=True)
        self.truth = facts_of(self.sound)
        self.folder = folder / "checkpoint"

    def case(self, rng: random.Random, tally: Outcome) -> str | None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for path in self.sound.iterdir():
            os.link(path, self.folder / path.name)
        for _ in range(rng.choice((1, 1, 2, 3))):
            change: Callable[[Bench, random.Random], None] = rng.choice(CHANGES)
            with contextlib.suppress(
                OSError, ValueError, LookupError, AttributeError
            ):  # what an earlier change took away
                change(self, rng)
            tally.kind(change.__name__)
        report = audit(self.folder)
        tally.verdict(report.verdict)
        tally.rules({finding.rule for finding in report.findings})
        return contradiction(report, thorough=rng.random() < 0.05) or self._against(report)

    def _against(self, report: AuditReport) -> str | None:
        if report.verdict != "passed":
            return None
        warned = named(report, {"warning"})
        loaded = transformers_takes(self.folder)
        if loaded is None:
            return "passed, and transformers finds no safetensors file to load"
        held = tensors_in(self.folder, loaded)
        if held != {name: each[1:] for name, each in self.truth["tensors"].items()}:
            lost = sorted(set(self.truth["tensors"]) - set(held))[:2]
            return f"passed, and transformers loads other tensors: {len(held)}, without {lost}"
        added = set(vllm_takes(self.folder)) - set(loaded)
        if added and not warned:
            return f"passed without a warning, and vLLM loads {sorted(added)[:3]} as well"
        return None

    # --- changes ---

    def some(self, rng: random.Random) -> Path:
        """One of the files that are there."""
        return rng.choice(sorted(self.folder.iterdir()))

    def replace(self, path: Path, data: bytes) -> None:
        """Write a file anew: the sound one that it is a link to stays."""
        path.unlink(missing_ok=True)
        path.write_bytes(data)


def add_a_stray(bench: Bench, rng: random.Random) -> None:
    path = bench.folder / rng.choice(STRAYS)
    draw = rng.random()
    if draw < 0.3:
        shutil.copyfile(bench.some(rng), path)
    elif draw < 0.4:
        path.mkdir()
    else:
        bench.replace(
            path, rng.choice((b"", POINTER, b"{}", rng.randbytes(4096), b"\x00" * 4096, b'{"weight_map":{}}'))
        )


def remove(bench: Bench, rng: random.Random) -> None:
    bench.some(rng).unlink()


def rename(bench: Bench, rng: random.Random) -> None:
    path = bench.some(rng)
    name = path.name
    path.rename(bench.folder / rng.choice((
        name.upper(), name.capitalize(), name.removesuffix(".safetensors"), name + ".bak", "x" + name, SINGLE,
        name.replace("0000", "000"), name.replace("-of-", "_of_"), name.replace("model", "mode\u0301l"), "." + name,
        name.replace("safetensors", "bin"), rng.choice(STRAYS),
    )))  # fmt: skip


def link(bench: Bench, rng: random.Random) -> None:
    path = bench.some(rng)
    target = rng.choice((
        str(bench.sound / path.name), "nowhere", path.name, "..", "/dev/null", "/dev/zero", "/etc/passwd",
        str(bench.some(rng)), "../sound/" + path.name,
    ))  # fmt: skip
    path.unlink()
    path.symlink_to(target)


def turn_into_something_else(bench: Bench, rng: random.Random) -> None:
    path = bench.some(rng)
    path.unlink()
    rng.choice((path.mkdir, lambda: os.mkfifo(path)))()


def cut(bench: Bench, rng: random.Random) -> None:
    path = bench.some(rng)
    data = read(path)
    bench.replace(path, rng.choice((b"", data[: len(data) // 2], data[:8], data[:-1], POINTER, data + b"\x00")))


def spell_the_index_otherwise(bench: Bench, rng: random.Random) -> None:
    index = json.loads(read(bench.folder / INDEX))
    placed = index["weight_map"]
    name = rng.choice(sorted(placed))
    old = placed[name]
    new = rng.choice((
        "./" + old, old.upper(), old.removesuffix(".safetensors"), "sub/" + old, "../sound/" + old, old + "/", "",
        old.replace("model", "Model"), rng.choice(sorted(set(placed.values()))), rng.choice(STRAYS),
        old.replace("s", "ſ"),
    ))  # fmt: skip
    for each, path in placed.items():
        if path == old and (each == name or rng.random() < 0.95):
            placed[each] = new
    bench.replace(bench.folder / INDEX, json.dumps(index).encode())


def send_the_loader_elsewhere(bench: Bench, rng: random.Random) -> None:
    config = json.loads(read(bench.folder / CONFIG))
    key = rng.choice(("transformers_weights", "auto_map", "_name_or_path", "base_model_name_or_path"))
    shards = sorted(path.name for path in bench.folder.glob("*.safetensors"))
    config[key] = rng.choice((*shards[:2], "other.safetensors", {"AutoConfig": "a.B"}, None, 7, ["x"], SINGLE, INDEX))
    bench.replace(bench.folder / CONFIG, json.dumps(config).encode())


def move_into_a_folder(bench: Bench, rng: random.Random) -> None:
    sub = bench.folder / rng.choice(("original", "sub", "snapshots", "blobs"))
    sub.mkdir(exist_ok=True)
    path = bench.some(rng)
    path.rename(sub / path.name)


CHANGES = (
    add_a_stray, add_a_stray, remove, rename, link, turn_into_something_else, cut, spell_the_index_otherwise,
    send_the_loader_elsewhere, move_into_a_folder,
)  # fmt: skip


# --- what loaders take ---


def transformers_takes(folder: Path) -> list[str] | None:
    """The files that transformers' from_pretrained loads of a folder, in its order; None where these are none."""
    config = json.loads(read(folder / CONFIG))
    named_there = config.get("transformers_weights")
    if isinstance(named_there, str):
        if not named_there.endswith(".index.json"):
            return [named_there]
        index = folder / named_there
    elif (folder / SINGLE).is_file():
        return [SINGLE]
    else:
        index = folder / INDEX
    if not index.is_file():
        return None
    return sorted(set(json.loads(read(index))["weight_map"].values()))


def vllm_takes(folder: Path) -> list[str]:
    """The files that vLLM loads: all *.safetensors, less those that an index does not name where there is one."""
    found = sorted(path.name for path in folder.glob("*.safetensors") if not path.name.startswith("."))
    index = folder / INDEX
    if not index.is_file():
        return found
    placed = set(json.loads(read(index))["weight_map"].values())
    return [name for name in found if name in placed]


def read(path: Path) -> bytes:
    """A regular file, which an earlier change may have turned into something that never ends."""
    if not path.is_file():
        raise OSError(f"{path}: no file")
    return path.read_bytes()


def tensors_in(folder: Path, files: list[str]) -> dict[str, tuple[Any, ...]]:
    """Names, dtypes and shapes in these files, as safetensors reads them."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, tuple[Any, ...]] = {}
    for name in files:
        if not name.endswith(".safetensors"):
            return {}
        try:
            with safe_open(folder / name, framework="numpy") as shard:
                for tensor in shard.keys():  # noqa: SIM118  # no mapping: it has keys() and no iterator
                    view = shard.get_slice(tensor)
                    found[tensor] = (view.get_dtype(), view.get_shape())
        except (SafetensorError, OSError):
            return {}
    return found
