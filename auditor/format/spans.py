"""Where a header's tensors lie in its file: every fault of sizes and offsets, one for each kind with its count."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from auditor.format.dtypes import BITS, packed_bytes
from auditor.format.entries import Fault, TensorHeader, elements
from auditor.text import named

MAX_RANK = 64  # of NumPy and torch; safetensors has no bound, and no model more than 5


class Faults:
    """Faults by kind: the first of each is told in words and place, all others add to its count and its tensors."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], Fault] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._names: dict[tuple[str, str], dict[str, None]] = {}

    def again(self, slug: str, kind: str, *names: str) -> bool:
        """Count one more where this kind is told already; otherwise `tell` must follow."""
        key = (slug, kind)
        if key not in self._first:
            return False
        self._counts[key] += 1
        self._names[key].update(dict.fromkeys(names))
        return True

    def tell(self, fault: Fault, *, count: int = 1) -> None:
        """The first of a kind."""
        key = (fault.slug, fault.kind)
        self._first[key], self._counts[key], self._names[key] = fault, count, dict.fromkeys(fault.tensors)

    def __iter__(self) -> Iterator[Fault]:
        for key, fault in self._first.items():
            more = self._counts[key] - 1
            if not more:
                yield fault
                continue
            yield Fault(
                fault.slug,
                f"{fault.message}; and {more:,} more alike in this file",
                fault.begin,
                fault.end,
                tuple(self._names[key]),
                fault.expected,
                fault.actual,
                fault.kind,
            )


def naturals(value: Any) -> bool:
    """Whether a value is an array of numbers that 64 bits hold."""
    return isinstance(value, list | tuple) and all(type(n) is int and 0 <= n < 1 << 64 for n in value)


def overflows(shape: Sequence[int]) -> bool:
    """Whether a reader's 64-bit product of the dimensions overflows, even where a later dimension is 0."""
    product = 1
    for dimension in shape:
        product *= dimension
        if product >> 64:
            return True
    return False


def is_shape(dtype: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor can have this shape, by its dimensions and by whole bytes."""
    if len(shape) > MAX_RANK or not naturals(shape) or overflows(shape):
        return False
    return BITS[dtype] % 8 == 0 or elements(shape) * BITS[dtype] % 8 == 0


def span_faults(
    tensors: Mapping[str, TensorHeader], data_bytes: int, data_begin: int, *, known: bool, faults: Faults
) -> None:
    """Add every fault of sizes and offsets. With `known` false gaps may belong to entries that could not be read."""
    sound: list[tuple[int, int, str]] = []
    for name, header in tensors.items():
        begin, end = header.data_offsets
        if end < begin:
            if not faults.again("invalid-tensor-entry", "reversed", name):
                text = f"data_offsets end before they begin: [{begin}, {end}]"
                faults.tell(Fault("invalid-tensor-entry", text, tensors=(name,), kind="reversed"))
            continue
        size = packed_bytes(header.dtype, elements(header.shape))
        if end - begin != size and not faults.again("invalid-tensor-entry", "span", name):
            text = f"data_offsets span {end - begin:,} bytes, {header.dtype} {header.shape} needs {size:,}"
            at = (data_begin + begin, data_begin + end)
            faults.tell(Fault("invalid-tensor-entry", text, *at, (name,), size, end - begin, "span"))
        sound.append((begin, end, name))
    known = known and len(sound) == len(tensors)  # a gap may be an entry's that describes no tensor
    sound.sort()
    position, holder = 0, ""
    for begin, end, name in sound:
        if begin < position:
            if not faults.again("overlapping-tensors", "", name, holder):
                text = f"begins at data byte {begin:,}, inside {named(holder)} that ends at {position:,}"
                at = (data_begin + begin, data_begin + min(end, position))
                faults.tell(Fault("overlapping-tensors", text, *at, (name, holder)))
        elif begin > position and known and not faults.again("uncovered-bytes", "", name):
            text = f"{begin - position:,} bytes before {named(name)} belong to no tensor"
            faults.tell(Fault("uncovered-bytes", text, data_begin + position, data_begin + begin, (name,)))
        if end >= position:
            position, holder = end, name
    if position > data_bytes:
        lost = tuple(name for begin, end, name in sound if end > data_bytes)
        file_bytes, needed = data_begin + data_bytes, data_begin + position
        text = f"file is {file_bytes:,} bytes, header needs {needed:,}: {needed - file_bytes:,} bytes short"
        faults.tell(Fault("truncated-shard", text, file_bytes, needed, lost, needed, file_bytes))
    elif position < data_bytes and known:
        file_bytes, needed = data_begin + data_bytes, data_begin + position
        rest = file_bytes - needed
        text = f"file is {file_bytes:,} bytes, header needs {needed:,}: {rest:,} bytes after the last tensor"
        faults.tell(Fault("trailing-bytes", text, needed, file_bytes, (), needed, file_bytes))
