"""Where a checkpoint's bytes come from: read-only, ranged, one file per kind of source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from auditor.errors import UsageError
from auditor.facts import Entry

Symlinks = Literal["follow", "inside"]

# From the first bytes of a file and its size: how many of its bytes, from the start, will be asked for.
Need = Callable[[bytes, int], int]


class File(Protocol):
    """An open file of a checkpoint. `size` in bytes, taken when it was opened."""

    size: int

    def read(self, begin: int, end: int) -> bytes:
        """The bytes of the half-open range; raises ReadError when they cannot be had."""

    def read_into(self, begin: int, buffer: memoryview) -> None:
        """Fill the whole buffer with the bytes from `begin` on; raises ReadError when they cannot be had.

        For content in order: a remote file reads ahead of what is asked for. Safe in one thread at a time.
        """

    def close(self) -> None:
        """Release what the file holds."""


class Source(Protocol):
    """A checkpoint's storage. Paths are POSIX, relative to the checkpoint, and already known to be safe.

    `uri` is safe to show: it holds no credentials. `revision` is the exact one that was resolved, such as
    a commit. `listed` is false for a source that cannot list its files.
    """

    uri: str
    revision: str | None
    listed: bool

    def entries(self, limit: int) -> tuple[dict[str, Entry], str | None]:
        """The files at the top of the checkpoint, and why the listing is not whole (or None).

        A source that cannot list has none, and `entry` tells of each file that it is asked for.
        """

    def entry(self, path: str) -> Entry:
        """One file by its path, with the identity that the store declares; kind `absent` where there is none."""

    def ahead(self, paths: Sequence[str], need: Need) -> None:
        """A hint: the starts of these files will be asked for, about in this order. A remote source fetches now."""

    def open(self, path: str) -> File:
        """Open a regular file; raises ReadError where that fails, ForbiddenError where the policy does not allow it."""

    def close(self) -> None:
        """Release what the source holds."""


def open_source(source: str, *, symlinks: Symlinks = "follow") -> Source:
    """The source that SOURCE names. Raises UsageError for a kind of source this version cannot read."""
    scheme, separator, _ = source.partition("://")
    if separator and scheme.isalnum():
        raise UsageError(f"cannot read {scheme}:// sources: give a local folder")
    from auditor.sources.folder import Folder

    return Folder(source, symlinks=symlinks)
