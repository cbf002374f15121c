"""One shard's header, parsed strictly: what the safetensors format allows and nothing else.

The fast path decodes with msgspec and proves the result by encoding it again: equal bytes leave no room
for duplicate keys, unknown fields, odd numbers or escapes. Whatever it cannot prove goes to the strict
reader, which explains every fault with offsets.
"""

from __future__ import annotations  # the models are named here, not imported

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from auditor.dtypes import BYTES, DTYPES
from auditor.facts import Fault, Kind, TensorHeader, Tiling, elements
from auditor.text import quoted, shown

if TYPE_CHECKING:
    from auditor.strictjson import Document
    from auditor_schemas.policy import Limits

METADATA = "__metadata__"
MAX_RANK = 8

_decode_tensors = msgspec.json.Decoder(dict[str, TensorHeader]).decode
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode
_encode = msgspec.json.Encoder().encode
_METADATA_OPENING = b'{"__metadata__":{'


class Header(msgspec.Struct, frozen=True):
    """A parsed header. `complete`: every entry is known and well formed; `over_limit` says which limit ended it.

    `tiling`: the tensors by kind, where they cover the data in the header's order.
    """

    tensors: dict[str, TensorHeader]
    metadata: dict[str, str] | None
    faults: tuple[Fault, ...]
    complete: bool
    over_limit: str | None = None
    tiling: Tiling | None = None


def parse_header(raw: bytes, data_bytes: int, limits: Limits) -> Header:
    """Parse the JSON `raw` of a header whose file holds `data_bytes` bytes of tensor data behind it."""
    proven = _prove(raw, limits)
    if proven is not None:
        tensors, metadata = proven
        tiling = _tiling(tensors, data_bytes)
        if tiling is not None or _tiling(dict(sorted(tensors.items(), key=_by_offset)), data_bytes) is not None:
            return Header(tensors, metadata, (), True, tiling=tiling)
        if all(_is_shape(header.shape) and _naturals(header.data_offsets) for header in tensors.values()):
            faults = tuple(_span_faults(tensors, data_bytes, 8 + len(raw)))
            return Header(tensors, metadata, faults, True)
    return _explain(raw, data_bytes, limits)


def _prove(raw: bytes, limits: Limits) -> tuple[dict[str, TensorHeader], dict[str, str] | None] | None:
    """Entries and metadata of a canonical header (compact, fields in the usual order), or None."""
    body = raw.rstrip(b" ")
    metadata: dict[str, str] | None = None
    try:
        if body.startswith(_METADATA_OPENING):
            end = body.index(b"}", len(_METADATA_OPENING)) + 1
            part = body[len(_METADATA_OPENING) - 1 : end]
            metadata = _decode_metadata(part)
            if _encode(metadata) != part:
                return None
            rest = body[end:]
            if rest != b"}" and not rest.startswith(b',"'):
                return None
            body = b"{" + rest.removeprefix(b",")
        tensors = _decode_tensors(body)
    except (msgspec.DecodeError, ValueError):
        return None
    if _encode(tensors) != body or METADATA in tensors or len(tensors) > limits.tensors_per_shard:
        return None
    if tensors and max(map(len, tensors)) * 4 > limits.name_bytes and _long_names(tensors, limits):
        return None
    return tensors, metadata


def _long_names(tensors: dict[str, TensorHeader], limits: Limits) -> list[str]:
    return [name for name in tensors if len(name.encode()) > limits.name_bytes]


def _tiling(tensors: dict[str, TensorHeader], data_bytes: int) -> Tiling | None:
    """The tensors by kind where they cover the data exactly, in order, each with its size; None where they do not."""
    found: dict[Kind, tuple[int, int, Callable[[str], None]]] = {}
    kinds: list[Kind] = []
    names: list[list[str]] = []
    order = array("I")
    note = order.append
    position = 0
    for name, header in tensors.items():
        kind = (header.dtype, header.shape)
        known = found.get(kind)
        if known is None:
            if not _is_shape(header.shape):
                return None
            held: list[str] = []
            known = found[kind] = (len(kinds), elements(header.shape) * BYTES[header.dtype], held.append)
            kinds.append(kind)
            names.append(held)
        number, size, hold = known
        begin, end = header.data_offsets
        if begin != position or end - begin != size:
            return None
        position = end
        note(number)
        hold(name)
    return Tiling(kinds, names, order.tobytes()) if position == data_bytes else None


def _by_offset(entry: tuple[str, TensorHeader]) -> tuple[int, int]:
    return entry[1].data_offsets


def _explain(raw: bytes, data_bytes: int, limits: Limits) -> Header:
    from auditor.strictjson import parse  # the slow path alone pays for it

    document = parse(raw, max_depth=limits.json_depth, max_values=limits.json_values)
    faults: list[Fault] = []
    over_limit: str | None = None
    for fault in document.faults:
        at = 8 + fault.offset
        if fault.kind == "duplicate-key":
            name = fault.key or ""
            top = name in document.entries
            faults.append(
                Fault(
                    "duplicate-header-key",
                    f"key {quoted(name)} is there more than once",
                    at,
                    at + len(name.encode()) + 2,
                    (name,) if top and name != METADATA else (),
                )
            )
        elif fault.kind == "limit":
            over_limit = f"header: {fault.message} at byte {at}"
        else:
            faults.append(
                Fault("malformed-header", f"{fault.message} (counted from the header's start)", at, 8 + len(raw))
            )
    if not document.complete:
        return Header({}, None, tuple(faults), False, over_limit)
    if not isinstance(document.value, dict):
        faults.append(
            Fault("malformed-header", f"header is {quoted(document.value)}, needs an object", 8, 8 + len(raw))
        )
        return Header({}, None, tuple(faults), False)
    if raw[:1] != b"{":
        faults.append(Fault("malformed-header", f"header starts with {quoted(raw[:1])}, needs '{{'", 8, 9))
    return _entries(raw, document, data_bytes, limits, faults)


def _entries(raw: bytes, document: Document, data_bytes: int, limits: Limits, faults: list[Fault]) -> Header:
    tensors: dict[str, TensorHeader] = {}
    metadata: dict[str, str] | None = None
    complete, over_limit, looked_at = True, None, 0
    for name, value in document.value.items():
        begin, end = document.entries[name]
        if name == METADATA:
            metadata, wrong = _metadata(value)
        elif len(name.encode()) > limits.name_bytes:
            complete = False
            over_limit = f"a tensor name of {len(name.encode()):,} bytes, limit {limits.name_bytes:,} (name_bytes)"
            continue
        elif looked_at >= limits.tensors_per_shard:
            complete = False
            over_limit = f"more than {limits.tensors_per_shard:,} tensors in one shard (tensors_per_shard)"
            break
        else:
            looked_at += 1
            wrong = list(_entry_faults(value))
            if not wrong:
                tensors[name] = TensorHeader(value["dtype"], tuple(value["shape"]), tuple(value["data_offsets"]))
            complete = complete and not wrong
        subject = () if name == METADATA else (name,)
        faults.extend(Fault("invalid-tensor-entry", text, 8 + begin, 8 + end, subject) for text in wrong)
    faults.extend(_span_faults(tensors, data_bytes, 8 + len(raw), known=complete))
    tiling = None if faults or not complete else _tiling(tensors, data_bytes)
    return Header(tensors, metadata, tuple(faults), complete, over_limit, tiling)


def _metadata(value: Any) -> tuple[dict[str, str] | None, list[str]]:
    if not isinstance(value, dict):
        return None, [f"__metadata__ is {quoted(value)}, needs an object of strings"]
    wrong = [
        f"__metadata__ {quoted(k)} is {quoted(v)}, needs a string" for k, v in value.items() if not isinstance(v, str)
    ]
    return {k: v for k, v in value.items() if isinstance(v, str)}, wrong


def _entry_faults(value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"entry is {quoted(value)}, needs an object with dtype, shape and data_offsets"
        return
    for key in ("dtype", "shape", "data_offsets"):
        if key not in value:
            yield f"{key} is missing"
    for key in value:
        if key not in ("dtype", "shape", "data_offsets"):
            yield f"unknown key {quoted(key)}"
    if "dtype" in value and value["dtype"] not in DTYPES:
        yield f"dtype is {quoted(value['dtype'])}, needs one of {', '.join(DTYPES)}"
    shape = value.get("shape", [])
    if not _naturals(shape):
        yield f"shape is {quoted(shape)}, needs an array of natural numbers"
    elif len(shape) > MAX_RANK:
        yield f"shape has {len(shape)} dimensions, at most {MAX_RANK} are read"
    elif _overflows(shape):
        yield f"shape is {quoted(shape)}, its product is more than 64 bits hold"
    offsets = value.get("data_offsets", [0, 0])
    if not _naturals(offsets) or len(offsets) != 2:
        yield f"data_offsets is {quoted(offsets)}, needs two natural numbers"


def _overflows(shape: Sequence[int]) -> bool:
    """Whether a reader's 64-bit product of the dimensions overflows, even where a later dimension is 0."""
    product = 1
    for dimension in shape:
        product *= dimension
        if product >> 64:
            return True
    return False


def _is_shape(shape: tuple[int, ...]) -> bool:
    return len(shape) <= MAX_RANK and _naturals(shape) and not _overflows(shape)


def _naturals(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(n) is int and 0 <= n < 1 << 64 for n in value)


def _span_faults(
    tensors: dict[str, TensorHeader], data_bytes: int, data_begin: int, *, known: bool = True
) -> Iterator[Fault]:
    """Every fault of sizes and offsets. With `known` false gaps may belong to entries that could not be read."""
    sound: list[tuple[int, int, str]] = []
    for name, header in tensors.items():
        begin, end = header.data_offsets
        at = (data_begin + begin, data_begin + end)
        if end < begin:
            yield Fault(
                "invalid-tensor-entry", f"data_offsets end before they begin: [{begin}, {end}]", None, None, (name,)
            )
            continue
        size = elements(header.shape) * BYTES[header.dtype]
        if end - begin != size:
            text = f"data_offsets span {end - begin:,} bytes, {header.dtype} {header.shape} needs {size:,}"
            yield Fault("invalid-tensor-entry", text, *at, (name,), expected=size, actual=end - begin)
        sound.append((begin, end, name))
    known = known and len(sound) == len(tensors)  # a gap may be an entry's that describes no tensor
    sound.sort()
    position, holder = 0, ""
    for begin, end, name in sound:
        if begin < position:
            text = f"begins at data byte {begin:,}, inside '{shown(holder)}' that ends at {position:,}"
            yield Fault(
                "overlapping-tensors", text, data_begin + begin, data_begin + min(end, position), (name, holder)
            )
        elif begin > position and known:
            text = f"{begin - position:,} bytes before '{shown(name)}' belong to no tensor"
            yield Fault("uncovered-bytes", text, data_begin + position, data_begin + begin, (name,))
        if end >= position:
            position, holder = end, name
    if position > data_bytes:
        lost = tuple(name for begin, end, name in sound if end > data_bytes)
        file_bytes, needed = data_begin + data_bytes, data_begin + position
        text = f"file is {file_bytes:,} bytes, header needs {needed:,}: {needed - file_bytes:,} bytes short"
        yield Fault("truncated-shard", text, file_bytes, needed, lost, expected=needed, actual=file_bytes)
    elif position < data_bytes and known:
        file_bytes, needed = data_begin + data_bytes, data_begin + position
        rest = file_bytes - needed
        text = f"file is {file_bytes:,} bytes, header needs {needed:,}: {rest:,} bytes after the last tensor"
        yield Fault("trailing-bytes", text, needed, file_bytes, (), expected=needed, actual=file_bytes)


APPLE_DOUBLE = "an AppleDouble file, in which macOS keeps metadata"
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"\x00\x05\x16\x07", APPLE_DOUBLE),
    (b"version https://git-lfs", "a git-lfs pointer"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML document"),
    (b"entry not found", "a 'not found' answer of a hub"),
    (b"invalid username or password", "a refusal of a hub"),
    (b'{"error', "a JSON error message"),
    (b'{"__metadata__"', "a safetensors header without its 8-byte length"),
    (b"pk\x03\x04", "a zip archive (a PyTorch pickle checkpoint looks so)"),
    (b"\x80\x02", "a Python pickle"),
    (b"gguf", "a GGUF file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\x93numpy", "a NumPy array"),
    (b"\x89hdf", "an HDF5 file"),
)


def disguise(head: bytes, size: int) -> str | None:
    """What stands in a shard's place, told from its first bytes, or None where it may be a shard."""
    if size == 0:
        return "an empty file"
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length <= size - 8:
        return None  # a header's length may spell a short magic: 640 starts like a pickle, 35,615 like gzip
    start = head[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, kind in _KINDS:
        if start.startswith(magic):
            return kind
    if len(head) >= 16 and not head.strip(b"\x00"):
        return f"{len(head)} zero bytes at its start (a preallocated download looks so)"
    return None
