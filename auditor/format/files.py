"""The files that make a checkpoint, by name: configuration, index, shards and their series, and what goes with them."""

import re
from collections.abc import Collection
from typing import NamedTuple

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
SUFFIX = ".safetensors"
# What loaders read beside config.json and the weights. Code comes under names of its own.
_COMPANIONS = (
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "generation_config.json", "merges.txt",
    "special_tokens_map.json", "tiktoken.model", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "vocab.json",
)  # fmt: skip
_CODE = 64  # modules looked at; a release has three
POINTER = 1024  # bytes that a git-lfs pointer has at most: more of a companion is not asked for from afar
HEAD = 4096  # enough to tell what stands in a shard's place
_SERIES = re.compile(r"(.+)-([0-9]{1,9})-of-([0-9]{1,9})\.safetensors")


class Member(NamedTuple):
    """What a name such as model-00001-of-000163.safetensors says: the series it belongs to, and its number there."""

    stem: str
    total: int
    number: int

    @property
    def series(self) -> tuple[str, int]:
        """What all members have in common."""
        return self.stem, self.total


def member_of(path: str) -> Member | None:
    """The place of a file in a numbered series, or None for another name."""
    found = _SERIES.fullmatch(path)
    return None if found is None else Member(found[1], int(found[3]), int(found[2]))


def is_consolidated(path: str) -> bool:
    """Whether a file is called as Mistral calls weights in its own format."""
    return path.startswith("consolidated") and path.endswith(".safetensors")


def series(start: bytes, most: int) -> list[str]:
    """The shards that the first numbered name in an index's start belongs to; a guess, to ask early."""
    found = re.search(rb'"([A-Za-z0-9._-]{1,200})-([0-9]{1,9})-of-([0-9]{1,9})\.safetensors"', start)
    if found is None:
        return []
    stem, digits, count = found[1].decode(), len(found[2]), found[3].decode()
    numbers = range(1, min(int(count), most) + 1)
    return [f"{stem}-{number:0{digits}}-of-{count}{SUFFIX}" for number in numbers]


def companions(entries: Collection[str]) -> list[str]:
    """The files of a listing that go with the weights: tokenizer, generation, code."""
    code = sorted(path for path in entries if path.endswith(".py"))[:_CODE]
    return [*(path for path in _COMPANIONS if path in entries), *code]
