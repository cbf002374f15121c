"""A folder of small files that an audit keeps for itself: who else may have written to it, and what is read of it."""

import errno
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from auditor.errors import UsageError
from auditor.text import shown

# O_NONBLOCK: a FIFO in the place of a file must not block. O_NOFOLLOW: a link leads to what somebody else chose.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_LINKS = 40
_PARTIAL = re.compile(r".+\.json\.[0-9]+\.[0-9a-f]{8}\.partial")


class Kept:
    """The folder, made where it is not there. `shared`: others may write to it, and that is meant.

    Raises UsageError where it cannot serve, or where others may write to it or put another in its place and nobody
    said that this is meant.
    """

    def __init__(self, path: str, *, shared: bool) -> None:
        self._shared = shared
        self._folder = Path(path)
        try:
            _make(self._folder)
            reason = None if shared else _doubt(self._folder)
        except OSError as error:
            raise UsageError(f"--resume {shown(path)}: cannot be made: {error.strerror}") from error
        if reason is not None:
            raise UsageError(f"--resume {shown(path)}: {reason}; give --resume-shared if that is meant")
        if not os.access(path, os.W_OK | os.X_OK) or not self._folder.is_dir():
            raise UsageError(f"--resume {shown(path)}: cannot be written to: name another folder")
        self._tidy()

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

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that it is there whole, even after a power cut, or not at all. Raises OSError."""
        partial = self._folder / f"{name}.{os.getpid()}.{os.urandom(4).hex()}.partial"
        descriptor = os.open(partial, _WRITE, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            partial.replace(self._folder / name)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def _tidy(self) -> None:
        """Take away what audits that were killed had begun to write."""
        for left in self._folder.glob("*.partial"):
            try:
                if _PARTIAL.fullmatch(left.name):  # a browser's are called so too
                    left.unlink()
            except OSError:  # a folder, which no audit has made, or somebody else's
                pass


def _make(folder: Path) -> None:
    """The folder and those above it that are not there, for their owner alone."""
    absent = []
    while not os.path.lexists(folder):
        absent.append(folder)
        folder = folder.parent
    for each in reversed(absent):
        try:
            each.mkdir(0o700)
        except FileExistsError:  # another audit was quicker
            pass


def _doubt(path: Path) -> str | None:
    """Why what the folder holds may be somebody else's; None where only this user and the system's may be."""
    for folder, name in _lookups(Path.cwd() / path):
        above = folder.stat()
        if (told := _open_to_others(folder, above, sticky=True)) is not None:
            return told
        entry = (folder / name).lstat()
        if above.st_mode & _OTHERS and _stranger(entry):  # each may take away what is theirs
            return f"{shown(str(folder / name))} belongs to user {entry.st_uid}"
    return _open_to_others(path, path.stat(), sticky=False)


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
