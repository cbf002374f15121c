"""One shard's header, parsed strictly: what the safetensors format allows and nothing else.

The fast path decodes with msgspec and proves the result by encoding it again: equal bytes leave no room
for duplicate keys, unknown fields, odd numbers or escapes. Whatever it cannot prove is explained (`explain.py`).
"""

from __future__ import annotations  # the models are named here, not imported

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from auditor.format.dtypes import packed_bytes
from auditor.format.entries import Fault, Kind, TensorHeader, Tiling, elements
from auditor.format.spans import Faults, is_shape, naturals, span_faults

if TYPE_CHECKING:
    from auditor_schemas.policy import Limits

_decode_tensors = msgspec.json.Decoder(dict[str, TensorHeader]).decode
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode
_encode = msgspec.json.Encoder().encode
_METADATA_OPENING = b'{"__metadata__":{'
_UNCOUNTED = 1 << 20  # what a header of fewer bytes can cost needs no bound


class Header(msgspec.Struct, frozen=True):
    """A parsed header. `complete`: every entry is known and well formed; `over_limit` says which limit ended it.

    `tiling`: the tensors by kind, where they cover the data in the header's order. `entries` and `values`: what
    the strict reader met of them.
    """

    tensors: dict[str, TensorHeader]
    metadata: dict[str, str] | None
    faults: tuple[Fault, ...]
    complete: bool
    over_limit: str | None = None
    tiling: Tiling | None = None
    entries: int = 0
    values: int = 0


def parse_header(raw: bytes, data_bytes: int, limits: Limits) -> Header:
    """Parse the JSON `raw` of a header whose file holds `data_bytes` bytes of tensor data behind it."""
    proven = _prove(raw, limits)
    if proven is not None:
        tensors, metadata = proven
        if len(tensors) > limits.tensors_per_shard:
            over = f"more than {limits.tensors_per_shard:,} tensors in one shard (tensors_per_shard)"
            return Header({}, metadata, (), False, over, entries=len(tensors))
        tiling = _tiling(tensors, data_bytes)
        if tiling is not None or _tiling(dict(sorted(tensors.items(), key=_by_offset)), data_bytes) is not None:
            return Header(tensors, metadata, (), True, tiling=tiling)
        if all(is_shape(each.dtype, each.shape) and naturals(each.data_offsets) for each in tensors.values()):
            faults = Faults()
            span_faults(tensors, data_bytes, 8 + len(raw), known=True, faults=faults)
            return Header(tensors, metadata, tuple(faults), True)
        del tensors, proven
    return _explained(raw, data_bytes, limits)


def _explained(raw: bytes, data_bytes: int, limits: Limits) -> Header:
    from auditor.format.explain import Entries  # the slow path alone pays for it

    entries = Entries(limits).read(raw)
    known, faults = entries.complete, entries.faults
    if known or entries.tensors:
        span_faults(entries.tensors, data_bytes, 8 + len(raw), known=known, faults=faults)
    found = tuple(faults)
    tiling = None if found or not known else _tiling(entries.tensors, data_bytes)
    return Header(
        entries.tensors, entries.metadata, found, known, entries.over_limit, tiling, entries.seen, entries.values
    )


def _prove(raw: bytes, limits: Limits) -> tuple[dict[str, TensorHeader], dict[str, str] | None] | None:
    """Entries and metadata of a canonical header (compact, fields in the usual order), or None."""
    if len(raw) > _UNCOUNTED and raw.count(b",") > limits.json_values:
        return None
    body = raw.rstrip(b" ")
    metadata: dict[str, str] | None = None
    try:
        if body.startswith(_METADATA_OPENING):
            end = body.index(b"}", len(_METADATA_OPENING)) + 1
            part = body[len(_METADATA_OPENING) - 1 : end]
            if len(part) > _UNCOUNTED:
                return None
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
    if _encode(tensors) != body or "__metadata__" in tensors:
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
            if not is_shape(header.dtype, header.shape):
                return None
            held: list[str] = []
            known = found[kind] = (len(kinds), packed_bytes(header.dtype, elements(header.shape)), held.append)
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
