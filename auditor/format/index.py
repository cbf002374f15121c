"""model.safetensors.index.json from its bytes: proven well formed, or explained fault by fault.

The fast path decodes with msgspec and counts quotation marks: where the decoded strings account for all of them, no
key was there twice.
"""

from __future__ import annotations  # the models are named here, not imported

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from auditor.format.disguise import disguise_of
from auditor.format.entries import Fault, Index
from auditor.format.files import HEAD, SUFFIX, series
from auditor.format.proof import has_minus_zero, quotes
from auditor.text import named, quoted

if TYPE_CHECKING:
    from auditor.format.strictjson import JsonFault
    from auditor_schemas.policy import Limits

_METADATA_BYTES = 1 << 20  # a release's has 50
_LEVELS = 64  # what no index needs, its metadata included


class _Weights(msgspec.Struct):
    weight_map: dict[str, str]
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def parse_index(data: bytes, limits: Limits, files: Iterable[str] = ()) -> Index:
    """The index from its bytes. `files` are paths that it probably names: it is read faster and held smaller so."""
    return _prove(data, limits, files) or _explain(data, limits)


def _prove(data: bytes, limits: Limits, files: Iterable[str]) -> Index | None:
    """The index where its bytes are proven well formed and within the limits."""
    marks = quotes(data)
    if marks > 4 * limits.tensors:
        return None
    weights = _decode_known(data, [*files, *series(data[:HEAD], limits.shards)]) or _decode(data, _Weights)
    if weights is None:
        return None
    metadata = _metadata(weights)
    if metadata is None or marks != 2 * (2 * len(weights.weight_map) + 1 + metadata.strings):
        return None
    if _over_limit(weights.weight_map, len(data), limits) is not None:
        return None
    total = metadata.total_size
    if total is not None and (type(total) is not int or total < 0):
        return None
    return Index("read", hashlib.sha256(data).hexdigest(), weights.weight_map, total)


class _Metadata(msgspec.Struct):
    strings: int  # of the document: the key, the keys in it and the values that are text
    total_size: Any = None


def _metadata(weights: _Weights) -> _Metadata | None:
    """What the index says of metadata, or None where that needs the strict reader."""
    raw = weights.metadata
    if isinstance(raw, msgspec.UnsetType):
        return _Metadata(0)
    if len(raw) > _METADATA_BYTES or has_minus_zero(bytes(raw)):
        return None
    fields = _decode(bytes(raw), dict[str, Any] | None)
    if fields is None:
        return _Metadata(1) if bytes(raw) == b"null" else None
    if any(isinstance(value, dict | list) for value in fields.values()):
        return None
    texts = sum(isinstance(value, str) for value in fields.values())
    return _Metadata(1 + len(fields) + texts, fields.get("total_size"))


def _decode_known(data: bytes, files: Iterable[str]) -> Any:
    """The index where it names these files alone: each path is then one string, not one per tensor."""
    known = tuple(sorted({file for file in files if file.endswith(SUFFIX)}))
    if not known or len(known) > 10_000:
        return None
    path: Any = Literal.__getitem__(known)
    return _decode(data, msgspec.defstruct("_Known", [("weight_map", dict[str, path]), _RAW], bases=(_Weights,)))


_RAW: tuple[str, Any, Any] = ("metadata", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET)


def _decode(data: bytes, shape: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _over_limit(names: Iterable[str], most: int, limits: Limits) -> str | None:
    """The limit that the names of a document of `most` bytes exceed, if they do."""
    longest = max(map(len, names), default=0)
    if longest * 4 > limits.name_bytes:
        longest = max(len(name.encode()) for name in names)
        if longest > limits.name_bytes:
            return f"a tensor name of {longest:,} bytes, limit {limits.name_bytes:,} (name_bytes)"
    if most > limits.name_bytes_in_all:
        total = sum(len(name.encode()) for name in names)
        if total > limits.name_bytes_in_all:
            return f"{total:,} bytes of tensor names, limit {limits.name_bytes_in_all:,} (name_bytes_in_all)"
    return None


class _Entries:
    """The entries of an index as they are read; nothing else of it is kept."""

    def __init__(self, limits: Limits) -> None:
        self.weight_map: dict[str, str] = {}
        self.wrong: dict[str, Any] = {}  # the first entry that is no text, by name
        self.names: list[str] = []  # of all of those
        self.total: Any = None
        self._limits = limits
        self._seen = 0
        self._paths: dict[str, str] = {}

    def take(self, outer: str | None, name: str, value: Any, begin: int, _: int) -> None:
        """Take one member of an object in the outermost one."""
        from auditor.format.strictjson import JsonFault, StopError

        self._seen += 1
        if self._seen > self._limits.tensors:
            raise StopError(JsonFault("limit", f"more than {self._limits.tensors:,} entries (tensors)", begin))
        if outer == "metadata" and name == "total_size":
            self.total = value
        elif outer == "weight_map" and isinstance(value, str):
            self.weight_map[name] = self._paths.setdefault(value, value)
        elif outer == "weight_map":
            self.names.append(name)
            self.wrong = self.wrong or {name: value}


def _explain(data: bytes, limits: Limits) -> Index:
    from auditor.format.strictjson import Keep, parse  # the slow path alone pays for it

    sha256 = hashlib.sha256(data).hexdigest()
    other = disguise_of(data)
    if other is not None:
        return Index("damaged", sha256, faults=(Fault("malformed-index", other, 0, len(data)),))
    entries = _Entries(limits)
    keep = Keep(depth=2, most_values=100_000, make=entries.take)
    document = parse(data, max_depth=limits.json_depth, max_values=limits.json_values, keep=keep)
    reason = next(
        (
            each
            for each in document.faults
            if each.kind == "limit" or (each.kind == "depth" and limits.json_depth < _LEVELS)
        ),
        None,
    )
    if reason is not None:
        return Index("unread", sha256, reason=f"{reason.message} at byte {reason.offset}", code="limit")
    over = _over_limit(entries.weight_map, len(data), limits)
    if over is not None:
        return Index("unread", sha256, reason=over, code="limit")
    faults = _document_faults(document.faults, document.duplicates, entries.weight_map)
    if not document.complete:
        return Index("damaged", sha256, faults=tuple(faults))
    total = _entry_faults(document.value, entries, faults)
    damaged = any(fault.slug == "malformed-index" for fault in faults)
    return Index("damaged" if damaged else "read", sha256, entries.weight_map, total, tuple(faults))


def _document_faults(found: list[JsonFault], duplicates: int, placed: dict[str, str]) -> list[Fault]:
    """Faults of the JSON: of duplicate keys one, with all of them that are tensors."""
    faults = []
    twice = [fault for fault in found if fault.kind == "duplicate-key"]
    if twice:
        names = [each.key for each in twice if each.path == ("weight_map",) and each.key in placed]
        text = f"key {named(twice[0].key or '')} is there more than once"
        text += f"; and {duplicates - 1:,} more keys" if duplicates > 1 else ""
        faults.append(Fault("malformed-index", text, twice[0].offset, None, tuple(dict.fromkeys(filter(None, names)))))
    faults += [Fault("malformed-index", each.message, each.offset) for each in found if each.kind != "duplicate-key"]
    return faults


def _entry_faults(value: Any, entries: _Entries, faults: list[Fault]) -> int | None:
    """Add what is wrong with a document that is JSON; its total_size, where that is a number of bytes."""
    if not isinstance(value, dict):
        faults.append(Fault("malformed-index", f"index is {quoted(value)}, needs an object with a weight_map"))
        return None
    if "error" in value and "weight_map" not in value:
        faults.append(Fault("malformed-index", "is the answer of a server, an error, and has no weight_map"))
        return None
    weight_map, metadata, total = value.get("weight_map"), value.get("metadata"), entries.total
    if not isinstance(weight_map, dict):
        faults.append(Fault("malformed-index", f"weight_map is {quoted(weight_map)}, needs an object of strings"))
    for name, wrong in entries.wrong.items():
        more = f"; and {len(entries.names) - 1:,} more entries alike" if len(entries.names) > 1 else ""
        text = f"weight_map entry {named(name)} is {quoted(wrong)}, needs a string{more}"
        faults.append(Fault("malformed-index", text, tensors=tuple(entries.names)))
    if metadata is not None and not isinstance(metadata, dict):
        faults.append(Fault("malformed-index", f"metadata is {quoted(metadata)}, needs an object"))
    if isinstance(total, float) and 0 <= total < 1 << 63 and total.is_integer():
        total = int(total)  # as it comes of fractional sizes added up
    if isinstance(total, str):
        text = f"total_size is the text {quoted(total)}, needs a number"
        faults.append(Fault("textual-total-size", text, expected="a number", actual=quoted(total)))
        total = None
    elif total is not None and (type(total) is not int or total < 0):
        faults.append(Fault("malformed-index", f"total_size is {quoted(total)}, needs a natural number"))
        total = None
    return None if total is None else int(total)
