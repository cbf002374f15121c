"""Headers that were read before, on disk for their owner alone: keyed by location and content identity together."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import NamedTuple

_MAGIC = b"auditor-header 1\n"
_DIGEST = 32
BOUND = 512 << 20  # bytes in all
_LARGEST = 64 << 20  # bytes of one file's start
_KEPT = 0.8  # of the bound, after trimming


class Cached(NamedTuple):
    """The start of a file, the whole file's size, and the identity it had."""

    data: bytes
    size: int
    identity: str


def folder() -> str | None:
    """Where the cache is: $XDG_CACHE_HOME/auditor/headers, or None where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        base = os.path.join(home, ".cache")
    return os.path.join(base, "auditor", "headers")


class Cache:
    """One file per location, path and identity, written whole or not at all, so that processes may share it.

    It never fails an audit: what cannot be read or written is fetched again. A folder that others own or may
    write to is not used.
    """

    def __init__(self, where: str, *, bound: int = BOUND) -> None:
        self._where = where
        self._bound = bound
        self._usable: bool | None = None
        self._wrote = 0

    def find(self, location: str, path: str, identity: str | None) -> Cached | None:
        """What is kept of a file of this identity; with None of the last one kept, which the caller has to confirm."""
        if not self._is_usable():
            return None
        if identity is None:
            latest = self._read(_key(location, path, None))
            if latest is None:
                return None
            identity = latest.decode("utf-8", "replace")
        name = _key(location, path, identity)
        found = self._read(name)
        if found is None or len(found) < 8:
            return None
        try:
            os.utime(os.path.join(self._where, name))  # what is used last is dropped last
        except OSError:
            pass
        return Cached(found[8:], int.from_bytes(found[:8], "little"), identity)

    def keep(
        self, location: str, path: str, identity: str, data: bytes | memoryview, size: int, *, latest: bool
    ) -> None:
        """Keep the start of a file of `size` bytes; `latest`: it is what `find` gives for no identity."""
        if len(data) > _LARGEST or not self._is_usable():
            return
        self._write(_key(location, path, identity), b"".join([size.to_bytes(8, "little"), data]))
        if latest:
            self._write(_key(location, path, None), identity.encode())

    def trim(self) -> None:
        """Drop what was used longest ago where there is more than the bound."""
        if not self._wrote:
            return
        self._wrote = 0
        found: list[tuple[float, int, str]] = []
        try:
            with os.scandir(self._where) as listing:
                for item in listing:
                    try:
                        status = item.stat(follow_symlinks=False)
                    except OSError:
                        continue  # another process dropped it
                    found.append((status.st_mtime, status.st_size, item.path))
        except OSError:
            return
        held = sum(size for _, size, _ in found)
        if held <= self._bound:
            return
        for _, size, path in sorted(found):
            if held <= self._bound * _KEPT:
                break
            try:
                os.unlink(path)
            except OSError:
                pass
            held -= size

    def _is_usable(self) -> bool:
        if self._usable is None:
            self._usable = self._prepare()
        return self._usable

    def _prepare(self) -> bool:
        try:
            os.makedirs(os.path.dirname(self._where), mode=0o700, exist_ok=True)
            try:
                os.mkdir(self._where, 0o700)
            except FileExistsError:
                pass
            status = os.stat(self._where, follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077

    def _read(self, name: str) -> bytes | None:
        try:
            descriptor = os.open(os.path.join(self._where, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid() or status.st_size > _LARGEST + 1024:
                return None
            try:
                content = file.read()
            except OSError:
                return None
        body = content[len(_MAGIC) + _DIGEST :]
        if content[: len(_MAGIC) + _DIGEST] != _MAGIC + hashlib.sha256(body).digest():
            return None
        return body

    def _write(self, name: str, body: bytes) -> None:
        partial = os.path.join(self._where, f"{name}.{os.getpid()}.{os.urandom(4).hex()}.partial")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(descriptor, "wb") as file:
                    file.write(_MAGIC + hashlib.sha256(body).digest())
                    file.write(body)
                os.replace(partial, os.path.join(self._where, name))
            except BaseException:
                os.unlink(partial)
                raise
        except OSError:
            return
        self._wrote += 1


def _key(location: str, path: str, identity: str | None) -> str:
    """A file name: the digest of all three, each with its length so that no two can run into each other."""
    digest = hashlib.sha256()
    for part in (location, path, "" if identity is None else f"={identity}"):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
