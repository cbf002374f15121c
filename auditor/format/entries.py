"""What headers and an index hold, frozen: tensors, shards, where the index places what, and faults.

Paths are POSIX and relative to the checkpoint, byte ranges half-open, shapes tuples, sizes in bytes. No I/O, no
judgement; each can be written to JSON and read back equal.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from math import prod
from typing import Any, Literal

from msgspec import Struct, field

from auditor.format.dtypes import FP8, Dtype, packed_bytes
from auditor.format.files import member_of
from auditor.text import plain_path
from auditor_schemas.codes import Code

METADATA = "__metadata__"  # the entry of a header that is no tensor
LEVELS = 3  # a header is an object of objects with arrays in them


class TensorHeader(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One tensor as its shard's header describes it; `data_offsets` count from the end of the header."""

    dtype: Dtype
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


Kind = tuple[Dtype, tuple[int, ...]]
Extent = tuple[Kind, tuple[int, int]]  # what a tensor is, and its bytes in the file


class Tiling(Struct, frozen=True):
    """A header by kind whose tensors lie back to back, so that their sizes give all offsets; in that order.

    `names` are those of each kind, `order` the position in `kinds` of each tensor, as an array of "I".
    """

    kinds: list[Kind]
    names: list[list[str]]
    order: bytes

    def __len__(self) -> int:
        return sum(map(len, self.names))

    def tensors(self) -> dict[str, TensorHeader]:
        """The header's entries by offset; those of one kind share dtype and shape."""
        order = array("I", self.order)
        dtypes, shapes = [each[0] for each in self.kinds], [each[1] for each in self.kinds]
        offsets = self._offsets(order, 0)
        headers = map(TensorHeader, map(dtypes.__getitem__, order), map(shapes.__getitem__, order), offsets)
        return dict(zip(self._names(order), headers, strict=True))

    def extents(self, begin: int) -> dict[str, Extent]:
        """The same as extents, where the first of them begins at `begin`."""
        order = array("I", self.order)
        extents = zip(map(self.kinds.__getitem__, order), self._offsets(order, begin), strict=True)
        return dict(zip(self._names(order), extents, strict=True))

    def _names(self, order: Sequence[int]) -> list[str]:
        following = [iter(names).__next__ for names in self.names]
        return [following[kind]() for kind in order]

    def _offsets(self, order: Sequence[int], begin: int) -> Iterator[tuple[int, int]]:
        sizes = [packed_bytes(dtype, elements(shape)) for dtype, shape in self.kinds]
        return pairwise(accumulate(map(sizes.__getitem__, order), initial=begin))


class Fault(Struct, frozen=True):
    """Something a header or an index cannot be, as the slug of the rule that reports it; one for each kind of it.

    `begin` and `end` are offsets in the file, of the first where there are several; `tensors` the names concerned.
    `kind` tells apart what one rule reports; faults of one kind in several files are one finding.
    """

    slug: str
    message: str
    begin: int | None = None
    end: int | None = None
    tensors: tuple[str, ...] = ()
    expected: Any = None
    actual: Any = None
    kind: str = ""

    @property
    def span(self) -> tuple[int, int] | None:
        """The byte range in the file, where it is known."""
        return None if self.begin is None else (self.begin, self.begin if self.end is None else self.end)


State = Literal["read", "damaged", "unread"]


class Shard(Struct, frozen=True, dict=True):
    """One shard's header.

    read: every tensor of the shard is known. damaged: some are not, by the file's own fault.
    unread: not read for another reason (`reason` and its `code`), such as permission or a limit. `stray`: no part of
    the checkpoint, since the index names other files; its tensors are not the checkpoint's. `tiling`: the same
    tensors by kind, where they lie back to back. `entries` and `values`: what its header has of them, tensors or
    not, where it had to be read value by value.
    """

    path: str
    size: int
    state: State
    header_bytes: int = 0
    header_sha256: str | None = None
    metadata: dict[str, str] | None = None
    tensors: Mapping[str, TensorHeader] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    reason: str | None = None
    stray: bool = False
    tiling: Tiling | None = None
    entries: int = 0
    values: int = 0
    code: Code | None = None

    @property
    def data_begin(self) -> int:
        """Offset of the first tensor byte in the file."""
        return 8 + self.header_bytes

    @cached_property
    def kinds(self) -> dict[Kind, list[str]]:
        """The names of each dtype and shape."""
        if self.tiling is not None:
            return dict(zip(self.tiling.kinds, self.tiling.names, strict=True))
        grouped: dict[Kind, list[str]] = {}
        for name, header in self.tensors.items():
            grouped.setdefault((header.dtype, header.shape), []).append(name)
        return grouped

    @cached_property
    def extents(self) -> dict[str, Extent]:
        """The tensors that can be read: all their bytes are in the file, as many as dtype and shape say, and not none.

        The others are findings.
        """
        if self.tiling is not None:
            every = self.tiling.extents(self.data_begin)
            last = next(reversed(every.values()), None)
            if last is None or (last[1][1] <= self.size and all(elements(shape) for _, shape in self.kinds)):
                return every
            return {name: each for name, each in every.items() if each[1][0] < each[1][1] <= self.size}
        sizes = {kind: packed_bytes(kind[0], elements(kind[1])) for kind in self.kinds}
        found: dict[str, Extent] = {}
        for name, header in self.tensors.items():
            kind, (begin, end) = (header.dtype, header.shape), self.span(name)
            if self.data_begin <= begin < end <= self.size and end - begin == sizes[kind]:
                found[name] = kind, (begin, end)
        return found

    def span(self, name: str) -> tuple[int, int]:
        """The byte range of a tensor in the file."""
        begin, end = self.tensors[name].data_offsets
        return self.data_begin + begin, self.data_begin + end


class Index(Struct, frozen=True, dict=True):
    """model.safetensors.index.json. `weight_map` maps tensor names to shard paths, as written."""

    state: State
    sha256: str | None = None
    weight_map: Mapping[str, str] = field(default_factory=dict)
    total_size: int | None = None
    faults: tuple[Fault, ...] = ()
    reason: str | None = None
    code: Code | None = None

    @cached_property
    def files(self) -> dict[str, int]:
        """Each file the index names, with the number of tensors it places there."""
        return dict(Counter(self.weight_map.values()))

    @cached_property
    def series(self) -> set[tuple[str, int]]:
        """The numbered series that the files it names belong to."""
        return {member.series for path in self.places if (member := member_of(path)) is not None}

    @cached_property
    def places(self) -> set[str]:
        """The files it names by their plain paths, where they have one: ./NAME is NAME."""
        return {plain_path(path) or path for path in self.files}

    def claims(self, path: str) -> bool:
        """Whether a file is one of the checkpoint's by its name: named, or numbered like those that are."""
        member = member_of(path)
        return path in self.places or (member is not None and member.series in self.series)

    def holds(self, shard: Shard) -> bool:
        """Whether every tensor of a shard is placed there."""
        here = {shard.path}
        return all(here.issuperset(map(self.weight_map.get, names)) for names in shard.kinds.values())

    def names_in(self, path: str) -> tuple[str, ...]:
        """The tensors that the index places in a file."""
        return tuple(self.by_file.get(path, ()))

    @cached_property
    def by_file(self) -> dict[str, list[str]]:
        """The names by file, grouped once: a hostile index may name as many files as tensors."""
        grouped: dict[str, list[str]] = {}
        for name, file in self.weight_map.items():
            grouped.setdefault(file, []).append(name)
        return grouped


def is_fp8(header: TensorHeader) -> bool:
    """Whether a tensor holds FP8 codes of the published format."""
    return header.dtype == FP8


def elements(shape: Sequence[int]) -> int:
    """The number of elements of a shape."""
    return prod(shape)
