"""An open file whose start is at hand, because another process has read it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from auditor.errors import ReadError

if TYPE_CHECKING:
    from auditor.sources import File, Source


class Start(NamedTuple):
    """What the other process has of a file: the bytes it begins with, or why there are none."""

    size: int
    error: str | None
    data: bytes


class Started:
    """An open file whose start is at hand; what lies behind it is read from the source."""

    window = 0
    at_hand = -1

    def __init__(self, source: "Source", path: str, start: Start) -> None:
        self._source = source
        self._path = path
        self._data = start.data
        self._file: File | None = None
        self.size = start.size

    def _whole(self) -> "File":
        if self._file is None:
            self._file = self._source.open(self._path)
            if self._file.size != self.size:
                raise ReadError(
                    f"{self._path}: is {self._file.size:,} bytes now, was {self.size:,}: changed while it was read"
                )
        return self._file

    def read(self, begin: int, end: int) -> bytes:
        """As a file's."""
        return self._data[begin:end] if end <= len(self._data) else self._whole().read(begin, end)

    def read_into(self, begin: int, buffer: memoryview) -> None:
        """As a file's."""
        self._whole().read_into(begin, buffer)

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """As a file's."""
        self._whole().expect(ranges)

    def stamp(self) -> str | None:
        """As a file's."""
        return self._whole().stamp()

    def close(self) -> None:
        """As a file's."""
        if self._file is not None:
            self._file.close()
