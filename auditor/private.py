"""Small files that this user keeps in folders: written whole or not at all, and read where nobody else wrote them."""

import errno
import hashlib
import os
import re
import stat
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from auditor.text import shown

# O_NONBLOCK: a FIFO in the place of a file must not block. O_NOFOLLOW: a link leads to what somebody else chose.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_LINKS = 40
_PARTIAL = re.compile(r".+\.[0-9]+\.[0-9a-f]{8}\.partial")
_DIGEST = 32
_ABANDONED_S = 3600  # far longer than a small file takes
_LEFT = 0.8  # of a cache's bound, after trimming


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
    """A folder of files, made where it is not there. `shared`: others may write to it, and that is meant.

    Raises OSError where it cannot be made.
    """

    def __init__(self, path: str | Path, *, shared: bool = False) -> None:
        self._folder = Path(path)
        self._shared = shared
        _make(self._folder)

    def read(self, name: str, most: int) -> bytes | None:
        """What a file holds. None where it is no regular file of at most `most` bytes, or somebody else's to write."""
        try:
            descriptor = os.open(self._folder / name, _READ)
        except OSError:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > most:
                return None
            if not self._shared and (_stranger(status) or status.st_mode & _OTHERS):
                return None
            with open(descriptor, "rb", closefd=False) as file:
                found = file.read(most + 1)  # it may be growing
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return found if len(found) <= most else None

    def write(self, name: str, data: bytes, *, durable: bool) -> None:
        """Write a file so that it is there whole or not at all; `durable`: even after a power cut. Raises OSError."""
        partial = self._folder / f"{name}.{os.getpid()}.{os.urandom(4).hex()}.partial"
        descriptor = os.open(partial, _WRITE, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(descriptor)
            partial.replace(self._folder / name)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def names(self) -> Iterator[str]:
        """What there is, files or not."""
        return (each.name for each in os.scandir(self._folder))

    def tidy(self) -> None:
        """Take away the files that processes which were killed had begun to write; others may write theirs now."""
        before = time.time() - _ABANDONED_S
        for left in self._folder.glob("*.partial"):
            if _PARTIAL.fullmatch(left.name):  # a browser's are called so too
                with suppress(OSError):  # a folder, which nobody here has made, or somebody else's
                    if left.lstat().st_mtime < before:
                        left.unlink()


class CacheFolder:
    """Files that can be had again, in a folder that this user's processes share. `magic` is the line each begins with.

    It never fails its user: what is not intact is not there, what cannot be written is left out. A folder that
    others own or may look into is not used.
    """

    def __init__(self, where: str, magic: bytes, *, largest: int, bound: int) -> None:
        self.largest = largest
        self._where = Path(where)
        self._magic = magic
        self._bound = bound
        self._wrote = False
        self._files: PrivateFolder | None = None
        with suppress(OSError):
            files = PrivateFolder(where)
            status = self._where.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
                self._files = files

    def read(self, name: str) -> bytes | None:
        """What a file holds, or None where it is absent, another's, or not intact."""
        begin = len(self._magic) + _DIGEST
        content = self._files.read(name, begin + self.largest) if self._files is not None else None
        if content is None:
            return None
        body = content[begin:]
        return body if content[:begin] == self._magic + hashlib.sha256(body).digest() else None

    def write(self, name: str, body: bytes) -> None:
        """Keep a file of at most `largest` bytes."""
        if self._files is None or len(body) > self.largest:
            return
        with suppress(OSError):
            self._files.write(name, self._magic + hashlib.sha256(body).digest() + body, durable=False)
            self._wrote = True

    def touch(self, name: str) -> None:
        """Note that a file was used: what is used last is dropped last."""
        with suppress(OSError):
            os.utime(self._where / name)

    def trim(self) -> None:
        """Drop what was used longest ago where something was written and there is more than the bound."""
        if not self._wrote:
            return
        self._wrote = False
        found = []
        with suppress(OSError):
            for path in self._where.iterdir():
                with suppress(OSError):  # another process dropped it
                    status = path.lstat()
                    found.append((status.st_mtime, status.st_size, path))
        held = sum(size for _, size, _ in found)
        if held <= self._bound:
            return
        for _, size, path in sorted(found):
            if held <= self._bound * _LEFT:
                break
            with suppress(OSError):
                path.unlink()
            held -= size


def doubt(path: Path) -> str | None:
    """Why what a folder holds may be somebody else's; None where only this user and the system's may be.

    Raises OSError where the folder cannot be looked up.
    """
    for folder, name in _lookups(Path.cwd() / path):
        above = folder.stat()
        if (reason := _open_to_others(folder, above, sticky=True)) is not None:
            return reason
        entry = (folder / name).lstat()
        if above.st_mode & _OTHERS and _stranger(entry):  # each may take away what is theirs
            return f"{shown(str(folder / name))} belongs to user {entry.st_uid}"
    return _open_to_others(path, path.stat(), sticky=False)


def _make(folder: Path) -> None:
    """The folder and those above it that are not there, for their owner alone."""
    absent = []
    while not os.path.lexists(folder):
        absent.append(folder)
        folder = folder.parent
    for each in reversed(absent):
        try:
            each.mkdir(0o700)
        except FileExistsError:  # another process was quicker
            pass


def _open_to_others(folder: Path, status: os.stat_result, *, sticky: bool) -> str | None:
    if _stranger(status):
        return f"{shown(str(folder))} belongs to user {status.st_uid}"
    if status.st_mode & _OTHERS and not (sticky and status.st_mode & stat.S_ISVTX):
        return f"others may write to {shown(str(folder))} (mode {stat.S_IMODE(status.st_mode):o})"
    return None


def _stranger(status: os.stat_result) -> bool:
    """Whether somebody owns it who is neither this user nor the system's, who may do anything anyway."""
    return status.st_uid not in (0, os.geteuid())


def _lookups(path: Path) -> Iterator[tuple[Path, str]]:
    """Every folder in which a part of an absolute path is looked up, with that part; links are followed."""
    here, parts, links = Path(path.anchor), deque(path.parts[1:]), 0
    while parts:
        name = parts.popleft()
        if name == "..":
            here = here.parent
            continue
        yield here, name
        if not (here / name).is_symlink():
            here = here / name
            continue
        links += 1
        if links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = (here / name).readlink()
        if target.is_absolute():
            here = Path(target.anchor)
        parts.extendleft(reversed(target.parts[1:] if target.is_absolute() else target.parts))
