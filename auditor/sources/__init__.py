"""Where a checkpoint's bytes come from: read-only, ranged, one file per kind of source."""

from typing import Literal, Protocol

from auditor.errors import UsageError
from auditor.facts import Entry

Symlinks = Literal["follow", "inside"]


class File(Protocol):
    """An open file of a checkpoint. `size` in bytes, taken when it was opened."""

    size: int

    def read(self, begin: int, end: int) -> bytes:
        """The bytes of the half-open range; raises ReadError when they cannot be had."""

    def close(self) -> None:
        """Release what the file holds."""


class Source(Protocol):
    """A checkpoint's storage. Paths are POSIX, relative to the checkpoint, and already known to be safe."""

    uri: str
    revision: str | None

    def entries(self, limit: int) -> tuple[dict[str, Entry], str | None]:
        """The files at the top of the checkpoint, and why the listing is not whole (or None)."""

    def entry(self, path: str) -> Entry:
        """One file by its path; kind `absent` where there is none."""

    def close(self) -> None:
        """Release what the source holds."""

    def open(self, path: str) -> File:
        """Open a regular file; raises ReadError where that fails, ForbiddenError where the policy does not allow it."""


def open_source(source: str, *, symlinks: Symlinks = "follow") -> Source:
    """The source that SOURCE names. Raises UsageError for a kind of source this version cannot read."""
    scheme, separator, _ = source.partition("://")
    if separator and scheme.isalnum():
        raise UsageError(f"cannot read {scheme}:// sources: give a local folder")
    from auditor.sources.folder import Folder

    return Folder(source, symlinks=symlinks)
