"""Much of one thing, within the default limits: any input stays under the ceiling of memory and time."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from auditor import audit
from auditor.forge import forge
from auditor.reporting.formats import FORMATS
from tests.fuzz.benches.checkpoints import contradiction
from tests.fuzz.running import Outcome
from tests.fuzz.truth import CONFIG, INDEX

MOST_BYTES = 4 << 20  # of one document: a case is to take seconds


class Bench:
    """A folder with a sound config.json and whatever else is large."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkpoint"
        self.sound = folder / "sound"
        forge(self.sound, like="tiny", sparse=True)

    def case(self, rng: random.Random, tally: Outcome) -> str | None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.sound, self.folder)
        kind: Callable[[Bench, random.Random], None] = rng.choice(KINDS)
        kind(self, rng)
        tally.kind(kind.__name__)
        report = audit(self.folder)
        tally.verdict(report.verdict)
        tally.rules({finding.rule for finding in report.findings})
        for name in ("json", "sarif", "junit", "markdown", "html"):
            FORMATS[name].render(report)
        return contradiction(report, thorough=False)

    def shard(self, header: bytes, size: int = 0) -> None:
        """The header in place of a shard."""
        path = self.folder / first_shard(self.folder)
        with path.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + size)


def first_shard(folder: Path) -> str:
    """A shard of the sound checkpoint, the first."""
    return min(path.name for path in folder.glob("*.safetensors"))


def _joined(items: Iterator[bytes], opening: bytes, closing: bytes, most: int) -> bytes:
    pieces, held = [], 0
    for item in items:
        held += len(item) + 1
        if held > most:
            break
        pieces.append(item)
    return opening + b",".join(pieces) + closing


def _numbered(template: str) -> Iterator[bytes]:
    number = 0
    while True:
        yield template.replace("@", f"{number:07d}").encode()
        number += 1


ENTRIES = (
    '"@":{}', '"@":0', '"@":null', '"@":[]', '"@":""', '"@":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}',
    '"@":{"dtype":"F8_E4M3","shape":[128,128],"data_offsets":[0,16384]}', '"@":{"dtype":"U8"}', '"same":{"@":1}',
    '"model.layers.@.mlp.experts.0.up_proj.weight":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}',
    '"model.layers.1.mlp.experts.@.up_proj.weight":{"dtype":"F8_E4M3","shape":[0,@],"data_offsets":[0,0]}',
    '"{@-9}.{0-@}":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}', '"same":{"dtype":"U8"}', '"@":{"@":{"@":{}}}',
    '"@":{"dtype":"U8","shape":[9,9,9,9,9,9,9,9,9,9],"data_offsets":[5,3]}', '"\\u202e@":{"dtype":"\\u001b"}',
)  # fmt: skip


def many_entries(bench: Bench, rng: random.Random) -> None:
    items = _numbered(rng.choice(ENTRIES))
    bench.shard(_joined(items, b"{", b"}", rng.randrange(1 << 16, MOST_BYTES)), rng.choice((0, 1, 1 << 20)))


def one_entry_of_many(bench: Bench, rng: random.Random) -> None:
    items = _numbered(rng.choice(('"@":{}', '"@":1', '"@":[[]]', "@", "[@]", "{}")))
    opening, closing = rng.choice(((b'{"a":{', b"}}"), (b'{"a":[', b"]}"), (b'{"__metadata__":{', b"}}"), (b"[", b"]")))
    bench.shard(_joined(items, opening, closing, rng.randrange(1 << 16, MOST_BYTES)))


def nested(bench: Bench, rng: random.Random) -> None:
    depth = rng.randrange(100, MOST_BYTES // 8)
    text = rng.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth, b"{" * depth))
    if rng.random() < 0.5:
        bench.shard(text)
    else:
        (bench.folder / rng.choice((CONFIG, INDEX))).write_bytes(text)


def large_index(bench: Bench, rng: random.Random) -> None:
    template = rng.choice((
        '"@":"@.safetensors"', '"@":"one.safetensors"', '"@":"../@"', '"@":7', '"same":"@"',
        '"@":"./model@.safetensors"',
        '"model.layers.@.input_layernorm.weight":"model-00001-of-@.safetensors"', '"@":""', '"@":"@.bin"',
    ))  # fmt: skip
    most = rng.randrange(1 << 16, MOST_BYTES)
    text = _joined(_numbered(template), b'{"weight_map":{', b"}}", most)
    (bench.folder / INDEX).write_bytes(text)


def large_config(bench: Bench, rng: random.Random) -> None:
    config = json.loads((bench.folder / CONFIG).read_bytes())
    count = rng.randrange(1000, 60_000)
    values = rng.choice((
        [f"model.layers.{n}.mlp" for n in range(count)], [f"x.{n}" for n in range(count)], list(range(count)),
        [""] * count, ["a" * 500] * (count // 100), [{}] * count, {f"k{n}": n for n in range(count)},
    ))  # fmt: skip
    where = config["quantization_config"] if rng.random() < 0.7 else config
    where[
        rng.choice(("modules_to_not_convert", "ignored_layers", "architectures", "auto_map", "weight_block_size"))
    ] = values
    (bench.folder / CONFIG).write_text(json.dumps(config))


def large_layout(bench: Bench, rng: random.Random) -> None:
    config = json.loads((bench.folder / CONFIG).read_bytes())
    for _ in range(rng.choice((1, 2, 3))):
        field = rng.choice([key for key, value in config.items() if type(value) is int])
        config[field] = rng.choice((0, 1, 64, 512, 4096, 100_000, 1 << 24, config[field] + 1))
    (bench.folder / CONFIG).write_text(json.dumps(config))


def many_files(bench: Bench, rng: random.Random) -> None:
    template = rng.choice((
        "model-{:05d}-of-009999.safetensors", "{}.safetensors", "._{}.safetensors", "{}.bin", "{}.aria2", "x{}.json",
    ))  # fmt: skip
    data = rng.choice(
        (b"", b"\x02" + b"\x00" * 7 + b"{}", b"x" * 4096, b"version https://git-lfs.github.com/spec/v1\n")
    )
    for number in range(rng.randrange(100, 2000)):
        (bench.folder / template.format(number)).write_bytes(data)


KINDS = (
    many_entries, many_entries, one_entry_of_many, nested, large_index, large_config, large_layout, many_files,
)  # fmt: skip
