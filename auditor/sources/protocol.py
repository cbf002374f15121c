"""What a source of a checkpoint's bytes answers, whichever kind it is; and an open file of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from auditor.sources.entry import Entry

if TYPE_CHECKING:
    from pathlib import Path

    from auditor.errors import Unread

Symlinks = Literal["follow", "inside"]

# From the first bytes of a file (none of them yet, at first) and its size: how many, from the start, will be asked for.
Need = Callable[[bytes, int], int]


class File(Protocol):
    """An open file of a checkpoint. `size` in bytes, taken when it was opened.

    `window`: of how many bytes it is worth to be told by `expect` before they are read.
    """

    size: int
    window: int

    def read(self, begin: int, end: int) -> bytes:
        """The bytes of the half-open range; raises ReadError when they cannot be had."""

    def read_into(self, begin: int, buffer: memoryview) -> None:
        """Fill the whole buffer with the bytes from `begin` on; raises ReadError when they cannot be had.

        Safe in one thread at a time.
        """

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """A hint: these half-open ranges will be read soon, each once. A remote file fetches now."""

    def stamp(self) -> str | None:
        """What identifies the content that is there now: another one where the file has changed. None: nothing does.

        What follows `HERE` in it, if anything, is the same on this machine alone.
        """

    def close(self) -> None:
        """Release what the file holds."""


class Source(Protocol):
    """A checkpoint's storage. Paths are POSIX, relative to the checkpoint, and already known to be safe.

    `uri` is safe to show: it holds no credentials. `revision` is the exact one that was resolved, such as
    a commit. `listed` is false for a source that cannot list its files.
    """

    @property
    def uri(self) -> str:
        """The source as it may be shown."""

    @property
    def identity(self) -> str:
        """What tells this checkpoint's place from any other; not for showing."""

    @property
    def revision(self) -> str | None:
        """The exact revision that was resolved."""

    @property
    def listed(self) -> bool:
        """Whether the source can list its files."""

    @property
    def versioned(self) -> bool:
        """Whether the store named a version of every file that was opened, so that a change shows while it is read."""

    @property
    def remote(self) -> bool:
        """Whether each read is a request."""

    def entries(self, limit: int) -> tuple[dict[str, Entry], Unread | None]:
        """The files at the top of the checkpoint, and why the listing is not whole (or None).

        A source that cannot list has none, and `entry` tells of each file that it is asked for.
        """

    def entry(self, path: str) -> Entry:
        """One file by its path, with the identity that the store declares; kind `absent` where there is none."""

    def holds(self, path: Path) -> bool:
        """Whether a local path lies inside the checkpoint."""

    def stamp(self, path: str) -> str | None:
        """What identifies the content that the path leads to now, as an open file's stamp does; None: nothing."""

    def ahead(self, paths: Sequence[str], need: Need, first: int = 0) -> None:
        """A hint: the starts of these files will be asked for, about in this order. A remote source fetches now.

        `first`: bytes to fetch of a file of unknown size before `need` says how many; 0: as many as a header has.
        """

    def warm(self, count: int) -> None:
        """A hint: so many files will be asked for at once, as soon as their names are known."""

    def arriving(self, until: str | None) -> Iterator[str]:
        """Files asked for ahead, as their starts come: all, or until that of `until` has come."""

    def open(self, path: str) -> File:
        """Open a regular file; raises ReadError where that fails, ForbiddenError where the policy does not allow it."""

    def close(self) -> None:
        """Release what the source holds."""
