"""Headers that were read before, on disk for their owner alone: keyed by location and content identity together."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from auditor.private import CacheFolder, cache_folder

_MAGIC = b"auditor-header 1\n"
BOUND = 512 << 20  # bytes in all
_LARGEST = 64 << 20  # bytes of one file's start


class Cached(NamedTuple):
    """The start of a file, the whole file's size, and the identity it had."""

    data: bytes
    size: int
    identity: str


def folder() -> str | None:
    """Where the cache is, or None where there is no home."""
    return cache_folder("headers")


class Cache:
    """One file per location, path and identity. It never fails an audit: what it has not is fetched again."""

    def __init__(self, where: str, *, bound: int = BOUND) -> None:
        self._folder = CacheFolder(where, _MAGIC, largest=_LARGEST, bound=bound)

    def find(self, location: str, path: str, identity: str | None) -> Cached | None:
        """What is kept of a file of this identity; with None of the last one kept, which the caller has to confirm."""
        if identity is None:
            latest = self._folder.read(_key(location, path, None))
            if latest is None:
                return None
            identity = latest.decode("utf-8", "replace")
        name = _key(location, path, identity)
        found = self._folder.read(name)
        if found is None or len(found) < 8:
            return None
        self._folder.touch(name)
        return Cached(found[8:], int.from_bytes(found[:8], "little"), identity)

    def keep(
        self, location: str, path: str, identity: str, data: bytes | memoryview, size: int, *, latest: bool
    ) -> None:
        """Keep the start of a file of `size` bytes; `latest`: it is what `find` gives for no identity."""
        if len(data) + 8 > self._folder.largest:
            return
        self._folder.write(_key(location, path, identity), b"".join([size.to_bytes(8, "little"), data]))
        if latest:
            self._folder.write(_key(location, path, None), identity.encode())

    def trim(self) -> None:
        """Drop what was used longest ago where there is more than the bound."""
        self._folder.trim()


def _key(location: str, path: str, identity: str | None) -> str:
    """A file name: the digest of all three, each with its length so that no two can run into each other."""
    digest = hashlib.sha256()
    for part in (location, path, "" if identity is None else f"={identity}"):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
