"""A header that is not proven well formed, entry by entry: what is sound in it, and every fault with its offset."""

from __future__ import annotations  # the models are named here, not imported

from typing import TYPE_CHECKING, Any

from auditor.format.dtypes import BITS, DTYPES
from auditor.format.entries import LEVELS, METADATA, Fault, TensorHeader, elements
from auditor.format.spans import MAX_RANK, Faults, naturals, overflows
from auditor.format.strictjson import JsonFault, Keep, StopError, parse
from auditor.text import named, quoted

if TYPE_CHECKING:
    from auditor.format.strictjson import Document
    from auditor_schemas.policy import Limits

ENTRY_VALUES = 100_000  # strings of a rich __metadata__; an entry has ten values
_FIELDS = ("dtype", "shape", "data_offsets")


class Entries:
    """The entries of one header as they are read; nothing else of it is kept.

    `complete`: each is known and well formed. `over_limit` says which limit ended the reading or left an entry out.
    `seen` counts the entries, tensors or not, `values` all JSON values.
    """

    def __init__(self, limits: Limits) -> None:
        self.tensors: dict[str, TensorHeader] = {}
        self.metadata: dict[str, str] | None = None
        self.faults = Faults()
        self.complete = True
        self.over_limit: str | None = None
        self._limits = limits
        self.seen = self.values = 0

    def read(self, raw: bytes) -> Entries:
        """Read the JSON of a header."""
        depth = self._limits.json_depth
        keep = Keep(depth=1, most_values=ENTRY_VALUES, make=self._entry)
        document = parse(raw, max_depth=depth, max_values=self._limits.json_values, keep=keep)
        self.values = document.values
        broken = False
        for fault in document.faults:
            at = 8 + fault.offset
            if fault.kind == "duplicate-key":
                self._duplicate(document, fault, at)
            elif fault.kind == "limit" or (fault.kind == "depth" and depth < LEVELS):
                self.over_limit = self.over_limit or f"header: {fault.message} at byte {at}"
                self.complete = False
            else:
                broken = True
                text = f"{fault.message} (counted from the header's start)"
                if fault.kind == "depth":
                    text = f"nested deeper than {depth} levels at byte {at}, a header has {LEVELS}"
                self.faults.tell(Fault("malformed-header", text, at, 8 + len(raw), kind=fault.kind))
        if broken:
            self.tensors, self.metadata, self.complete = {}, None, False
            self.faults = _of_document(self.faults)
        elif document.complete and not isinstance(document.value, dict):
            text = f"header is {quoted(document.value)}, needs an object"
            self.faults.tell(Fault("malformed-header", text, 8, 8 + len(raw), kind="no object"))
            self.complete = False
        elif document.complete and raw[:1] != b"{":
            text = f"header starts with {quoted(raw[:1])}, needs '{{'"
            self.faults.tell(Fault("malformed-header", text, 8, 9, kind="start"))
        return self

    def _duplicate(self, document: Document, fault: JsonFault, at: int) -> None:
        name = fault.key or ""
        names = (name,) if not fault.path and name in self.tensors else ()
        if not self.faults.again("duplicate-header-key", "", *names):
            text = f"key {named(name)} is there more than once"
            more = max(0, document.duplicates - sum(each.kind == "duplicate-key" for each in document.faults))
            end = at + len(name.encode()) + 2
            self.faults.tell(Fault("duplicate-header-key", text, at, end, names), count=1 + more)

    def _entry(self, _: str | None, name: str, value: Any, begin: int, end: int) -> None:
        """Take one entry, which begins and ends there in the header."""
        at = (8 + begin, 8 + end)
        if name == METADATA:
            self._metadata(value, at)
            return
        self.seen += 1
        if self.seen > self._limits.tensors_per_shard:
            self.over_limit = f"more than {self._limits.tensors_per_shard:,} tensors in one shard (tensors_per_shard)"
            raise StopError(JsonFault("limit", self.over_limit, begin))
        if len(name) * 4 > self._limits.name_bytes and (length := len(name.encode())) > self._limits.name_bytes:
            self.complete = False
            self.over_limit = f"a tensor name of {length:,} bytes, limit {self._limits.name_bytes:,} (name_bytes)"
            return
        kinds = _wrong(value)
        for kind in kinds:
            if not self.faults.again("invalid-tensor-entry", kind, name):
                self.faults.tell(Fault("invalid-tensor-entry", _message(kind, value), *at, (name,), kind=kind))
        if kinds:
            self.complete = False
        elif len(value["shape"]) > MAX_RANK:
            self.complete = False
            self.over_limit = f"a tensor of {len(value['shape']):,} dimensions, no more than {MAX_RANK} are read"
        else:
            offsets = value["data_offsets"]
            self.tensors[name] = TensorHeader(value["dtype"], tuple(value["shape"]), (offsets[0], offsets[1]))

    def _metadata(self, value: Any, at: tuple[int, int]) -> None:
        if value is None:
            self.metadata = {}  # safetensors reads null as none; that it names no format is a finding of its own
            return
        if not isinstance(value, dict):
            text = f"__metadata__ is {quoted(value)}, needs an object of strings"
            self.faults.tell(Fault("invalid-tensor-entry", text, *at, kind="metadata"))
            return
        self.metadata = {key: text for key, text in value.items() if isinstance(text, str)}
        for key, text in value.items():
            if not isinstance(text, str) and not self.faults.again("invalid-tensor-entry", "metadata"):
                message = f"__metadata__ {quoted(key)} is {quoted(text)}, needs a string"
                self.faults.tell(Fault("invalid-tensor-entry", message, *at, kind="metadata"))


def _of_document(faults: Faults) -> Faults:
    """Those that say why a document cannot be read: where it broke off, its entries say nothing of their own."""
    kept = Faults()
    for fault in faults:
        if fault.slug != "invalid-tensor-entry":
            kept.tell(fault)
    return kept


def _wrong(value: Any) -> list[str]:
    """The kinds of fault of an entry."""
    if not isinstance(value, dict):
        return ["entry"]
    missing = sum(key not in value for key in _FIELDS)
    kinds = ["missing"] if missing else []
    if len(value) + missing > len(_FIELDS):
        kinds.append("key")
    dtype, shape, offsets = value.get("dtype", "U8"), value.get("shape", []), value.get("data_offsets", [0, 0])
    dtype = dtype if isinstance(dtype, str) else ""
    if dtype not in BITS:
        kinds.append("dtype")
    if not naturals(shape):
        kinds.append("shape")
    elif overflows(shape):
        kinds.append("product")
    elif dtype in BITS and "shape" in value and elements(shape) * BITS[dtype] % 8:
        kinds.append("bits")
    if not naturals(offsets) or len(offsets) != 2:
        kinds.append("data_offsets")
    return kinds


def _message(kind: str, value: Any) -> str:
    """A fault of an entry in words: what is there and what was needed."""
    if kind == "entry":
        return f"entry is {quoted(value)}, needs an object with dtype, shape and data_offsets"
    if kind == "key":
        return f"unknown key {quoted(next(key for key in value if key not in _FIELDS))}"
    if kind == "dtype":
        return f"dtype is {quoted(value['dtype'])}, needs one of {', '.join(DTYPES)}"
    if kind == "shape":
        return f"shape is {quoted(value['shape'])}, needs an array of natural numbers"
    if kind == "product":
        return f"shape is {quoted(value['shape'])}, its product is more than 64 bits hold"
    if kind == "bits":
        count = elements(value["shape"])
        return f"shape is {quoted(value['shape'])}: {count:,} elements of {value['dtype']} end inside a byte"
    if kind == "data_offsets":
        return f"data_offsets is {quoted(value['data_offsets'])}, needs two natural numbers"
    missing = [key for key in _FIELDS if key not in value]
    return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
