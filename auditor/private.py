"""Files kept on disk for this user alone, each written whole or not at all, and known to be intact when read."""

from __future__ import annotations

import hashlib
import os
import stat

_DIGEST = 32
_KEPT = 0.8  # of the bound, after trimming


def cache_folder(name: str) -> str | None:
    """Where a cache is: $XDG_CACHE_HOME/auditor/`name`, or None where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        base = os.path.join(home, ".cache")
    return os.path.join(base, "auditor", name)


class PrivateFolder:
    """A folder of small files that processes may share. `magic` is the line with which each begins.

    It never fails its user: what cannot be read is not there, what cannot be written is left out. A folder that
    others own or may look into is not used.
    """

    def __init__(self, where: str, magic: bytes, *, largest: int, bound: int) -> None:
        self.largest = largest
        self._where = where
        self._magic = magic
        self._bound = bound
        self._usable: bool | None = None
        self._wrote = False

    def usable(self) -> bool:
        """Whether the folder is there, or can be made, and is this user's alone."""
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

    def read(self, name: str) -> bytes | None:
        """What a file holds, or None where it is absent, another's, or not intact."""
        if not self.usable():
            return None
        try:
            descriptor = os.open(os.path.join(self._where, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid() or status.st_size > self.largest + 1024:
                return None
            try:
                content = file.read()
            except OSError:
                return None
        begin = len(self._magic) + _DIGEST
        body = content[begin:]
        return body if content[:begin] == self._magic + hashlib.sha256(body).digest() else None

    def write(self, name: str, body: bytes) -> None:
        """Keep a file of at most `largest` bytes."""
        if len(body) > self.largest or not self.usable():
            return
        partial = os.path.join(self._where, f"{name}.{os.getpid()}.{os.urandom(4).hex()}.partial")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with open(descriptor, "wb") as file:
                    file.write(self._magic + hashlib.sha256(body).digest())
                    file.write(body)
                os.replace(partial, os.path.join(self._where, name))
            except BaseException:
                os.unlink(partial)
                raise
        except OSError:
            return
        self._wrote = True

    def touch(self, name: str) -> None:
        """Note that a file was used: what is used last is dropped last."""
        try:
            os.utime(os.path.join(self._where, name))
        except OSError:
            pass

    def trim(self) -> None:
        """Drop what was used longest ago where something was written and there is more than the bound."""
        if not self._wrote:
            return
        self._wrote = False
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
