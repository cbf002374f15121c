"""A checkpoint in a local folder. Opens regular files alone and never leaves the folder through a name."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from auditor.errors import ForbiddenError, ReadError, SourceError, Unread
from auditor.sources.entry import HERE, Entry, EntryKind
from auditor.sources.protocol import Need, Symlinks
from auditor_schemas.codes import Code

# O_NONBLOCK: a FIFO put in place between the check and the opening must not block.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_DIGITS = frozenset("0123456789abcdef")
_NOTES = ".cache/huggingface/download"
_NOTE_BYTES = 1024
_GONE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)
_NOT_AT_HAND = (errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # not in memory, or nobody can say


class _OpenFile:
    window = 8 << 20

    def __init__(self, descriptor: int, size: int, path: str) -> None:
        self.size = size
        self._descriptor = descriptor
        self._path = path
        # While all that is read is in memory already, nobody needs to be told of what comes, which takes its time.
        self._at_hand = hasattr(os, "RWF_NOWAIT")
        self._untold: list[tuple[int, int]] = []

    def read(self, begin: int, end: int) -> bytes:
        """The bytes of the half-open range; raises ReadError on an I/O error or a file that shrank."""
        parts = []
        while begin < end:
            try:
                part = os.pread(self._descriptor, min(end - begin, 1 << 26), begin)
            except OSError as error:
                raise ReadError(f"{self._path}: {error.strerror} at byte {begin}") from error
            if not part:
                told = f"ended at byte {begin:,} while it was read, was {self.size:,} bytes"
                raise ReadError(f"{self._path}: {told}", code="changed")
            parts.append(part)
            begin += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, begin: int, buffer: memoryview) -> None:
        """Fill the buffer from `begin` on; raises ReadError on an I/O error or a file that shrank."""
        done = 0
        while done < len(buffer):
            try:
                flags = os.RWF_NOWAIT if self._at_hand else 0
                count = os.preadv(self._descriptor, [buffer[done:]], begin + done, flags)
            except OSError as error:
                if self._at_hand and error.errno in _NOT_AT_HAND:
                    self._at_hand = False
                    self.expect([each for each in self._untold if each[1] > begin + done])
                    continue
                raise ReadError(f"{self._path}: {error.strerror} at byte {begin + done:,}") from error
            if not count:
                told = f"ended at byte {begin + done:,} while it was read, was {self.size:,} bytes"
                raise ReadError(f"{self._path}: {told}", code="changed")
            done += count

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Have the system read ahead, where it can and has to."""
        if self._at_hand:
            self._untold += ranges
        elif hasattr(os, "posix_fadvise"):
            for begin, end in ranges:
                try:
                    os.posix_fadvise(self._descriptor, begin, end - begin, os.POSIX_FADV_WILLNEED)
                except OSError:  # a hint that is not taken is no fault
                    return

    def stamp(self) -> str:
        """Size and time of the last change of the open file; of this machine's alone device, inode and its change."""
        return _stamp(os.fstat(self._descriptor))

    def close(self) -> None:
        os.close(self._descriptor)


class Folder:
    """A folder, followed through symlinks to regular files as hub caches and shared disks need it.

    With symlinks "inside" a file outside the checkpoint and its hub cache is not opened. A hub cache is
    `models--org--name/snapshots/<commit>`, with `blobs/` or `refs/` beside `snapshots/`. Raises SourceError where the
    folder is not one. With `roots` neither the folder nor a file in it is opened that lies below none of them.
    """

    revision: str | None = None
    listed = True
    versioned = True
    remote = False

    def __init__(self, path: str, *, symlinks: Symlinks, roots: tuple[str, ...] | None = None) -> None:
        self.uri = path
        self._symlinks = symlinks
        self._roots = None if roots is None else tuple(os.path.realpath(root).rstrip("/") + "/" for root in roots)
        try:
            if not self._is_allowed(os.path.realpath(path)):  # of what lies elsewhere nobody hears whether it is there
                raise _elsewhere(path)
            self._root = Path(path).resolve(strict=True)
            self._directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except NotADirectoryError:
            raise SourceError(f"{path}: is a file; give the folder that holds config.json and the shards") from None
        except FileNotFoundError:
            raise SourceError(f"{path}: no such folder") from None
        except (OSError, RuntimeError, ValueError) as error:
            raise SourceError(f"{path}: {getattr(error, 'strerror', None) or error}", code="unreadable") from error
        if self._roots is not None:  # what was opened counts, not what the name led to a moment before
            self._root = Path(_real(self._directory, str(self._root), os.fstat(self._directory)))
            if not self._is_allowed(str(self._root)):
                self.close()
                raise _elsewhere(path)
        inside = [self._root]
        self._blobs = ""
        snapshot = next(filter(_is_snapshot, (self._root, *self._root.parents)), None)
        if snapshot is not None:
            self.revision = snapshot.name
            blobs = snapshot.parent.parent / "blobs"
            if _is_directory(blobs) and self._is_allowed(str(blobs)):
                inside.append(blobs)
                self._blobs = f"{blobs}/"
        # Where the hub's client notes what it downloaded into this folder, or nothing.
        self._notes = f"{self._root}/{_NOTES}" if _is_directory(self._root / _NOTES) else ""
        self.identity = str(self._root)
        self._inside = tuple(str(root).rstrip("/") + "/" for root in inside)

    def close(self) -> None:
        """Release the folder; nothing is read afterwards."""
        directory, self._directory = self._directory, -1
        if directory >= 0:
            os.close(directory)

    def ahead(self, paths: Sequence[str], need: Need, first: int = 0) -> None:
        """Local files need no hint."""

    def warm(self, count: int) -> None:
        """Local files need no connection."""

    def arriving(self, until: str | None) -> Iterator[str]:  # noqa: ARG002  # as the protocol has it
        """None: local files are there."""
        return iter(())

    def entries(self, limit: int) -> tuple[dict[str, Entry], Unread | None]:
        """The files at the top of the folder, subfolders left out, at most `limit` of them."""
        found: dict[str, Entry] = {}
        try:
            with os.scandir(self._directory) as listing:
                for item in listing:
                    if len(found) >= limit:
                        return found, Unread(f"the folder holds more than {limit:,} entries (limit files)", "limit")
                    try:
                        name = item.name
                        name.encode()
                    except UnicodeEncodeError:
                        continue  # a name that is not UTF-8 cannot be a shard's: the index could not name it
                    found[name] = self.entry(name)
        except OSError as error:
            return found, Unread(f"the folder cannot be listed: {error.strerror}", "unreadable")
        return found, None

    def entry(self, path: str) -> Entry:
        """One file by its path; a symlink is followed and says where it leads."""
        try:
            status = os.stat(path, dir_fd=self._directory, follow_symlinks=False)
            link = sha256 = None
            is_link = stat.S_ISLNK(status.st_mode)
            if is_link or "/" in path:  # the folder in a path from the index may be a symlink as well
                named = str(self._root / path)
                real = os.path.realpath(named)
                if is_link or real != named:
                    link = "inside" if self._is_inside(real) else "outside"
                    sha256 = self._declared(real)
                status = os.stat(path, dir_fd=self._directory)
        except OSError as error:
            if error.errno in _GONE:
                try:
                    return Entry("broken-link", target=os.readlink(self._root / path))
                except OSError:
                    return Entry("absent")
            return Entry("file")  # there, but not to be looked at: opening it says why
        except ValueError:  # a NUL byte
            return Entry("absent")
        if self._notes and sha256 is None and path.endswith(".safetensors"):
            sha256 = self._noted(path)
        return Entry(_kind(status.st_mode), status.st_size, link, sha256=sha256)  # type: ignore[arg-type]  # link is one of the two literals

    def open(self, path: str) -> _OpenFile:
        """Open a regular file, judged again on the descriptor; raises ReadError or ForbiddenError where not."""
        try:
            if not stat.S_ISREG(os.stat(path, dir_fd=self._directory).st_mode):
                raise ReadError(f"{path}: is not a regular file", code="changed")
            descriptor = os.open(path, _FLAGS, dir_fd=self._directory)
        except (OSError, ValueError) as error:
            code: Code = "changed" if isinstance(error, OSError) and error.errno in _GONE else "unreadable"
            raise ReadError(f"{path}: {getattr(error, 'strerror', None) or error}", code=code) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ReadError(f"{path}: is not a regular file", code="changed")
            if self._symlinks == "inside" or self._roots is not None:
                real = _real(descriptor, str(self._root / path), status)
                if self._symlinks == "inside" and not self._is_inside(real):
                    raise ForbiddenError(f"{path}: leads out of the checkpoint, which the policy forbids")
                if not self._is_allowed(real):
                    raise ReadError(f"{path}: leads out of the folders that may be read", code="not_allowed")
        except BaseException:
            os.close(descriptor)
            raise
        return _OpenFile(descriptor, status.st_size, path)

    def stamp(self, path: str) -> str | None:
        """The same of the file that the path leads to."""
        try:
            return _stamp(os.stat(path, dir_fd=self._directory))
        except (OSError, ValueError):
            return None

    def holds(self, path: Path) -> bool:
        """Whether a local path lies in the folder."""
        return (os.path.realpath(path) + "/").startswith(str(self._root).rstrip("/") + "/")

    def _is_inside(self, real: str) -> bool:
        return real.startswith(self._inside)

    def _is_allowed(self, real: str) -> bool:
        return self._roots is None or f"{real}/".startswith(self._roots)

    def _declared(self, real: str) -> str | None:
        """The SHA-256 by which the hub's cache names the blob of a large file; small ones have shorter names."""
        name = real.removeprefix(self._blobs)
        return name if self._blobs and name != real and len(name) == 64 and _DIGITS.issuperset(name) else None

    def _noted(self, path: str) -> str | None:
        """The SHA-256 that the hub's client noted of a large file when it downloaded it into the folder.

        A note has three lines: commit, the hub's ETag, time.
        """
        try:
            descriptor = os.open(f"{self._notes}/{path}.metadata", _FLAGS | os.O_NOFOLLOW)
            try:
                is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
                lines = os.read(descriptor, _NOTE_BYTES).splitlines() if is_regular else []
            finally:
                os.close(descriptor)
            name = lines[1].decode("ascii").strip('"') if len(lines) > 1 else ""
        except (OSError, ValueError):
            return None
        return name if len(name) == 64 and _DIGITS.issuperset(name) else None


def _elsewhere(path: str) -> SourceError:
    return SourceError(f"{path}: lies in none of the folders that may be read", code="not_allowed")


def _real(descriptor: int, named: str, status: os.stat_result) -> str:
    """The real path of what was opened, not of what the name says a moment later."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # no procfs: the resolved name counts if it still is what was opened
        real = os.path.realpath(named)
        try:
            return real if os.path.samestat(os.stat(real), status) else ""
        except OSError:
            return ""


def _stamp(status: os.stat_result) -> str:
    # Whoever writes may set the time of the last change back, but not that of the inode's.
    here = f"{status.st_dev}:{status.st_ino}:{status.st_ctime_ns}"
    return f"{status.st_size}:{status.st_mtime_ns}{HERE}{here}"


def _is_snapshot(folder: Path) -> bool:
    """Whether a folder is a commit's in a hub cache."""
    repository = folder.parent.parent
    return (
        folder.parent.name == "snapshots"
        and len(folder.name) == 40
        and _DIGITS.issuperset(folder.name)
        and repository.name.startswith(("models--", "datasets--", "spaces--"))
        and (_is_directory(repository / "blobs") or _is_directory(repository / "refs"))
    )


def _is_directory(path: Path) -> bool:
    """Whether a directory is there itself, and no symlink to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _kind(mode: int) -> EntryKind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "socket" if stat.S_ISSOCK(mode) else "device"
