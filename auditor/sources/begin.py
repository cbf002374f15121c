"""How a remote source is told at once what a walk will read of a checkpoint."""

from __future__ import annotations  # the models are named here, not imported

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from auditor.errors import AuditorError
from auditor.format.files import CONFIG, HEAD, INDEX, POINTER, SINGLE, SUFFIX, companions, series
from auditor.threads import Thread
from auditor_schemas.defaults import LIMITS

if TYPE_CHECKING:
    from auditor.sources.protocol import Need, Source
    from auditor_schemas.policy import Limits

_SHARDS = 64  # of which a checkpoint of this layout has at least so many: 163 in FP8
_INDEX_BYTES = 16 << 20  # at first: 9 MB of a release, and what is not there costs nothing


def begin(source: Source, limits: Limits) -> None:
    """Have a remote source fetch what the walk will read, all of it at once; asking again costs nothing.

    Where there is no listing, the start of the index tells the names of its shards before all of it is there.
    """

    def index(start: bytes, size: int) -> int:
        if not source.listed:
            source.ahead(series(start, limits.shards), need_of(SINGLE, limits))
        return need_of(INDEX, limits)(start, size)

    entries = source.entries(limits.files)[0]
    source.ahead([CONFIG], need_of(CONFIG, limits))
    source.ahead([INDEX], index, _INDEX_BYTES)
    if not source.listed:
        source.ahead([SINGLE], need_of(SINGLE, limits))
        source.warm(_SHARDS)
    shards = sorted(path for path, entry in entries.items() if path.endswith(SUFFIX) and entry.kind == "file")
    source.ahead(shards[: limits.shards], need_of(SINGLE, limits))
    source.ahead([path for path in companions(entries) if 0 < entries[path].size <= POINTER], lambda _, size: size)


def fetch(source: Source) -> None:
    """Have a thread tell a remote source what a walk with default limits reads; it ends when all is asked for."""
    limits: Any = SimpleNamespace(**LIMITS)

    def run() -> None:
        try:
            begin(source, limits)
        except AuditorError:
            pass  # the walk meets it again, where somebody listens

    Thread(run, "auditor-begin").start()


def need_of(path: str, limits: Limits) -> Need:
    """How much of a file a walk reads, from its start: configuration and index whole, of any other the header."""

    def whole(limit: int) -> Need:
        return lambda _, size: size if size <= limit else 0

    def header(start: bytes, size: int) -> int:
        length = int.from_bytes(start[:8], "little")
        if len(start) < 8 or length > min(size - 8, limits.header_bytes):
            return HEAD
        return max(HEAD, 8 + length)

    return {CONFIG: whole(limits.config_bytes), INDEX: whole(limits.index_bytes)}.get(path, header)
