"""Where a checkpoint's bytes come from: read-only, ranged, one file per kind of source."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Protocol

from auditor.errors import UsageError
from auditor.facts import Entry

Symlinks = Literal["follow", "inside"]


class File(Protocol):
    """An open file of a checkpoint. `size` in bytes, taken when it was opened."""

    size: int

    def read(self, begin: int, end: int) -> bytes:
        """The bytes of the half-open range; raises ReadError when they cannot be had."""

    def read_into(self, begin: int, buffer: memoryview) -> None:
        """Fill the buffer with the bytes from `begin` on; raises ReadError when they cannot be had."""

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """A hint: these half-open ranges will be read soon."""

    def stamp(self) -> str:
        """What identifies the content that is there now: another one where the file has changed."""

    def close(self) -> None:
        """Release what the file holds."""


class Source(Protocol):
    """A checkpoint's storage. Paths are POSIX, relative to the checkpoint, and already known to be safe."""

    uri: str
    identity: str  # tells this checkpoint's place from any other; not for showing
    revision: str | None

    def entries(self, limit: int) -> tuple[dict[str, Entry], str | None]:
        """The files at the top of the checkpoint, and why the listing is not whole (or None)."""

    def entry(self, path: str) -> Entry:
        """One file by its path; kind `absent` where there is none."""

    def holds(self, path: Path) -> bool:
        """Whether a local path lies inside the checkpoint."""

    def stamp(self, path: str) -> str | None:
        """What identifies the content that the path leads to now, as an open file's stamp does; None: nothing."""

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
