"""One shard's header, parsed strictly: what the safetensors format allows and nothing else.

The fast path decodes with msgspec into typed structs, which take no unknown field, no float and no third offset, and
proves what is left: that no key is there twice (`proof.py`). Whatever it cannot prove is explained (`explain.py`).
"""

from __future__ import annotations  # the models are named here, not imported

import re
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from auditor.format.dtypes import packed_bytes
from auditor.format.entries import LEVELS, METADATA, Fault, Kind, TensorHeader, Tiling, elements
from auditor.format.proof import has_minus_zero, quotes
from auditor.format.spans import Faults, is_shape, naturals, span_faults

if TYPE_CHECKING:
    from auditor_schemas.policy import Limits

_ENTRY_QUOTES = 10  # of its name, its three fields and its dtype
_UNCOUNTED = 1 << 20  # what a header of fewer bytes can cost needs no bound

_decode_tensors = msgspec.json.Decoder(dict[str, TensorHeader]).decode
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode

# The metadata, with the brace before it and the comma that goes with it: first of all entries, or behind one.
_SPACE = rb"[ \t\n\r]*+"
_OBJECT = rb'(\{(?:[^{}"]++|"(?:[^"\\]++|\\.)*+")*+\})'
_MEMBER = _SPACE + rb'"__metadata__"' + _SPACE + rb":" + _SPACE + _OBJECT + _SPACE
_FIRST = re.compile(rb"\{" + _MEMBER + rb"(?:,(?=" + _SPACE + rb'")|(?=\}))')
_LATER = re.compile(rb"\}" + _SPACE + rb"," + _MEMBER + rb"(?=[,}])")


class Header(msgspec.Struct, frozen=True):
    """A parsed header. `complete`: every entry is known and well formed; `over_limit` says which limit ended it.

    `tiling`: the tensors by kind, where they cover the data. `entries` and `values`: what the strict reader met of
    them.
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
        if tiling is not None:
            return Header(tensors, metadata, (), True, tiling=tiling)
        if all(is_shape(each.dtype, each.shape) and naturals(each.data_offsets) for each in tensors.values()):
            faults = Faults()
            span_faults(tensors, data_bytes, 8 + len(raw), known=True, faults=faults)
            return Header(tensors, metadata, tuple(faults), True)
        del tensors, proven
    return _explain(raw, data_bytes, limits)


def _explain(raw: bytes, data_bytes: int, limits: Limits) -> Header:
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
    """Entries and metadata of a header that is proven well formed, however it is written; else None."""
    if limits.json_depth < LEVELS or (len(raw) > _UNCOUNTED and raw.count(b",") > limits.json_values):
        return None
    try:
        metadata, rest = _metadata_apart(raw)
        tensors = _decode_tensors(rest)
    except (msgspec.DecodeError, ValueError):
        return None
    needed = _ENTRY_QUOTES * len(tensors) + (0 if metadata is None else 2 + 4 * len(metadata))
    if raw[:1] != b"{" or METADATA in tensors or quotes(raw) != needed or has_minus_zero(raw):
        return None
    most = limits.name_bytes
    if tensors and max(map(len, tensors)) * 4 > most and any(len(name.encode()) > most for name in tensors):
        return None
    return tensors, metadata


def _metadata_apart(raw: bytes) -> tuple[dict[str, str] | None, bytes]:
    """The metadata, and a header without it, which is JSON just where this one is. Raises where that is not known."""
    found = _FIRST.match(raw)
    if found is None:
        at = raw.find(b'"__metadata__"')
        # One place is tried: in a header made for it each of many could take all that is behind it to fail.
        found = _LATER.match(raw, raw.rfind(b"}", 0, at)) if at > 0 else None
    if found is None:
        return None, raw
    # Where no string is open before it, the brace before it ends an entry if what is left is a header at all.
    if len(found[1]) > _UNCOUNTED or quotes(raw[: found.start()]) % 2:
        raise ValueError
    return _decode_metadata(found[1]), raw[: found.start() + 1] + raw[found.end() :]


def _tiling(tensors: dict[str, TensorHeader], data_bytes: int) -> Tiling | None:
    """The tensors by kind where they cover the data exactly, each with its size; None where they do not."""
    tiling = _tile(tensors, data_bytes)
    if tiling is not None:
        return tiling
    return _tile(dict(sorted(tensors.items(), key=lambda each: each[1].data_offsets)), data_bytes)


def _tile(tensors: dict[str, TensorHeader], data_bytes: int) -> Tiling | None:
    """The same of tensors in the order of their offsets."""
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
