"""The files of one side while a task reads them: each is the one whose header was read, and stays it."""

from collections import OrderedDict, deque
from collections.abc import Iterable

from auditor.content.device import Buffer, Bytes
from auditor.content.fp8 import Floats
from auditor.content.plan import ScaleAt
from auditor.content.shard import stamp_of
from auditor.content.stored import as_floats
from auditor.errors import ReadError
from auditor.format.entries import Shard
from auditor.sources import File, Source

_OPEN = 8  # files of one side that a thread holds open


class Stream:
    """One thread's way to read one side, task after task."""

    def __init__(self, source: Source, shards: dict[str, Shard], size: int) -> None:
        self._source = source
        self._shards = shards
        self._buffer = Buffer(size)
        self._files: OrderedDict[str, File] = OrderedDict()
        self._ahead: deque[tuple[str, int, int]] = deque()
        self._announced = self._taken = 0
        self.stamps: dict[str, str | None] = {}

    def begin(self, ranges: Iterable[tuple[str, int, int]]) -> None:
        """A task whose bytes are read in this order."""
        self._ahead = deque(ranges)
        self._announced = self._taken = 0
        self.stamps = {}

    def run(self, path: str, begin: int, end: int) -> Bytes:
        """Bytes of a file; what was there is gone with the next run."""
        file = self._open(path)
        if self._source.remote:
            self._announce(file.window)
        run = self._buffer.at(begin, end - begin)
        file.read_into(begin, run.data)
        self._taken += end - begin
        return run

    def scales(self, at: ScaleAt) -> Floats:
        """The scales of a weight."""
        return as_floats(self._open(at.file).read(at.begin, at.end), at.dtype).reshape(at.shape)

    def bytes_of(self, at: ScaleAt) -> bytes:
        """The same as they are stored."""
        return self._open(at.file).read(at.begin, at.end)

    def end(self) -> None:
        """The end of a task. Raises ReadError where a file that it read is no longer the one that it was."""
        for path, file in self._files.items():
            if path in self.stamps and file.stamp() != self.stamps[path]:
                raise ReadError(f"{path}: changed while it was read", code="changed")
        for path, stamp in self.stamps.items():
            if path not in self._files and self._source.stamp(path) != stamp:
                raise ReadError(f"{path}: changed while it was read", code="changed")

    def close(self) -> None:
        """Close every file."""
        while self._files:
            self._files.popitem()[1].close()

    def _open(self, path: str) -> File:
        file = self._files.get(path)
        if file is None:
            if len(self._files) == _OPEN:
                self._files.popitem(last=False)[1].close()
            file = self._source.open(path)
            self._files[path] = file
        self._files.move_to_end(path)
        if path not in self.stamps:
            shard = self._shards[path]
            self.stamps[path] = stamp_of(
                file, path, size=shard.size, header_end=shard.data_begin, sha256=shard.header_sha256
            )
        return file

    def _announce(self, window: int) -> None:
        """Tell storage what is read next, half a window to a whole one ahead."""
        if self._announced - self._taken > window // 2:
            return
        while self._ahead and self._announced - self._taken < window:
            path, begin, end = self._ahead.popleft()
            stop = min(end, begin + window)
            if stop < end:
                self._ahead.appendleft((path, stop, end))
            if path not in self._files and len(self._files) == _OPEN:
                self._ahead.appendleft((path, begin, stop))
                return
            self._open(path).expect([(begin, stop)])
            self._announced += stop - begin
