"""The files that make a checkpoint, and how a remote source is told at once what a walk will read of them."""

from __future__ import annotations  # the models are named here, not imported

import re
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from auditor.errors import AuditorError
from auditor_schemas.defaults import LIMITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from auditor.entry import Entry
    from auditor.sources import Need, Source
    from auditor_schemas.policy import Limits

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
_SHARDS = 64  # of which a checkpoint of this layout has at least so many: 163 in FP8
_INDEX_BYTES = 16 << 20  # at first: 9 MB of a release, and what is not there costs nothing
HEAD = 4096  # enough to tell what stands in a shard's place


def begin(source: Source, limits: Limits) -> None:
    """Have a remote source fetch what the walk will read, all of it at once; asking again costs nothing.

    Where there is no listing, the start of the index tells the names of its shards before all of it is there.
    """

    def index(start: bytes, size: int) -> int:
        if not source.listed:
            source.ahead(series(start, limits), needed(SINGLE, limits))
        return needed(INDEX, limits)(start, size)

    entries = source.entries(limits.files)[0]
    source.ahead([CONFIG], needed(CONFIG, limits))
    source.ahead([INDEX], index, _INDEX_BYTES)
    if not source.listed:
        source.ahead([SINGLE], needed(SINGLE, limits))
        source.warm(_SHARDS)
    shards = sorted(path for path, entry in entries.items() if path.endswith(SUFFIX) and entry.kind == "file")
    source.ahead(shards[: limits.shards], needed(SINGLE, limits))
    source.ahead([path for path in companions(entries) if 0 < entries[path].size <= POINTER], lambda _, size: size)


def companions(entries: Mapping[str, Entry]) -> list[str]:
    """The files of a listing that go with the weights: tokenizer, generation, code."""
    code = sorted(path for path in entries if path.endswith(".py"))[:_CODE]
    return [*(path for path in _COMPANIONS if path in entries), *code]


def fetch(source: Source) -> None:
    """Have a thread tell a remote source what a walk with default limits reads; it ends when all is asked for."""
    limits: Any = SimpleNamespace(**LIMITS)

    def run() -> None:
        try:
            begin(source, limits)
        except AuditorError:
            pass  # the walk meets it again, where somebody listens

    threading.Thread(target=run, name="auditor-begin", daemon=True).start()


def needed(path: str, limits: Limits) -> Need:
    """How much of a file a walk reads, from its start: configuration and index whole, of any other the header."""

    def whole(limit: int) -> Need:
        return lambda _, size: size if size <= limit else 0

    def header(start: bytes, size: int) -> int:
        length = int.from_bytes(start[:8], "little")
        if len(start) < 8 or length > min(size - 8, limits.header_bytes):
            return HEAD
        return max(HEAD, 8 + length)

    return {CONFIG: whole(limits.config_bytes), INDEX: whole(limits.index_bytes)}.get(path, header)


def series(start: bytes, limits: Limits) -> list[str]:
    """The shards that the first numbered name in an index's start belongs to; a guess that a walk does not rely on."""
    found = re.search(rb'"([A-Za-z0-9._-]{1,200})-([0-9]{1,9})-of-([0-9]{1,9})\.safetensors"', start)
    if found is None:
        return []
    stem, digits, count = found[1].decode(), len(found[2]), found[3].decode()
    numbers = range(1, min(int(count), limits.shards) + 1)
    return [f"{stem}-{number:0{digits}}-of-{count}{SUFFIX}" for number in numbers]
