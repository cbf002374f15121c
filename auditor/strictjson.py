"""A strict, non-recursive JSON reader that explains every fault with its byte offset.

It is the slow path: fast decoders keep the last of duplicate keys silently and give up at the first
error without saying where. Documents a fast decoder can prove well formed never come here.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

FaultKind = Literal["syntax", "encoding", "duplicate-key", "limit"]

# Possessive: a string that could backtrack costs 200 bytes of memory per byte. Escapes are judged later.
_TOKEN = re.compile(
    rb"[ \t\n\r]*+(?:"
    rb"([{}\[\],:])"
    rb'|"([^"\\\x00-\x1f]*+)"'
    rb'|("(?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*+")'
    rb"|(-?(?:0|[1-9][0-9]*+))(\.[0-9]++)?([eE][+-]?[0-9]++)?(?![0-9.eE+\-])"
    rb"|(true|false|null)"
    rb")"
)
_SPACE = re.compile(rb"[ \t\n\r]*+")
_NAMES: dict[bytes, bool | None] = {b"true": True, b"false": False, b"null": None}
_DUPLICATES = 10_000  # a document with more is refused: each fault costs more memory than the key that makes it
_DIGITS = 400  # longer integers are refused: parsing them is quadratic


@dataclass(frozen=True, slots=True)
class JsonFault:
    """One fault of a document; `offset` in bytes from its start, `key` the innermost object key concerned."""

    kind: FaultKind
    message: str
    offset: int
    key: str | None = None


@dataclass(slots=True)
class Document:
    """A parsed document. `complete` is false when a fault ended the reading early.

    `value` then holds what was read before. `entries` gives the byte range of each value of the
    outermost object by key; of duplicate keys the first counts and each later one is a fault.
    """

    value: Any = None
    complete: bool = False
    faults: list[JsonFault] = field(default_factory=list)
    entries: dict[str, tuple[int, int]] = field(default_factory=dict)


class _StopError(Exception):
    def __init__(self, fault: JsonFault) -> None:
        self.fault = fault


def parse(data: bytes, *, max_depth: int, max_values: int) -> Document:
    """Read one JSON document (RFC 8259, UTF-8, no duplicate keys). Never raises on bad input."""
    document = Document()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        document.faults.append(
            JsonFault("encoding", f"not UTF-8: byte 0x{data[error.start]:02x} at byte {error.start}", error.start)
        )
        return document
    try:
        _read(data, document, max_depth, max_values)
    except _StopError as stop:
        document.faults.append(stop.fault)
    return document


def _read(data: bytes, document: Document, max_depth: int, max_values: int) -> None:
    stack: list[Any] = []  # open containers, outermost first
    keys: list[str | None] = []  # per open container: the key that waits for its value
    discard: list[bool] = []  # per open container: the waiting key is a duplicate
    state = "value"  # value, value-or-end, key, key-or-end, colon, next
    position = 0
    values = 0
    start = 0  # where the current value of the outermost object begins
    while True:
        token = _TOKEN.match(data, position)
        if token is None:
            raise _StopError(_syntax(data, position, state))
        begin = token.start(token.lastindex or 0) if token.lastindex else token.end()
        kind = token.lastindex
        if kind in (5, 6):
            begin = token.start(4)
        elif kind == 2:
            begin -= 1
        mark = token.group(1)
        position = token.end()
        if state in ("key", "key-or-end"):
            if mark == b"}" and state == "key-or-end":
                value = stack.pop()
                keys.pop()
                discard.pop()
            else:
                key = _string(token, begin)
                if key is None:
                    raise _StopError(_syntax(data, begin, state))
                duplicate = key in stack[-1]
                if duplicate:
                    if len(document.faults) >= _DUPLICATES:
                        raise _StopError(JsonFault("limit", f"more than {_DUPLICATES:,} duplicate keys", begin))
                    document.faults.append(JsonFault("duplicate-key", "duplicate key", begin, key))
                keys[-1], discard[-1] = key, duplicate
                state = "colon"
                continue
        elif state == "colon":
            if mark != b":":
                raise _StopError(_syntax(data, begin, state))
            if len(stack) == 1:
                space = _SPACE.match(data, position)
                start = space.end() if space else position
            state = "value"
            continue
        elif state == "next":
            if mark == b",":
                state = "key" if isinstance(stack[-1], dict) else "value"
                continue
            if (mark == b"}" and isinstance(stack[-1], dict)) or (mark == b"]" and isinstance(stack[-1], list)):
                value = stack.pop()
                keys.pop()
                discard.pop()
            else:
                raise _StopError(_syntax(data, begin, state))
        else:
            closes = mark == b"]" and state == "value-or-end"
            values += not closes
            if values > max_values:
                raise _StopError(JsonFault("limit", f"more than {max_values:,} values", begin))
            if mark in (b"{", b"["):
                if len(stack) >= max_depth:
                    raise _StopError(JsonFault("limit", f"nested deeper than {max_depth} levels", begin))
                opened: Any = {} if mark == b"{" else []
                stack.append(opened)
                keys.append(None)
                discard.append(False)
                if len(stack) == 1:
                    document.value = opened
                state = "key-or-end" if mark == b"{" else "value-or-end"
                continue
            if closes:
                value = stack.pop()
                keys.pop()
                discard.pop()
            elif mark is not None:
                raise _StopError(_syntax(data, begin, state))
            else:
                value = _scalar(token, begin)
        # A value is complete: hand it to the container it stands in.
        if not stack:
            document.value = value
            break
        holder = stack[-1]
        if isinstance(holder, list):
            holder.append(value)
        elif not discard[-1]:
            waiting = keys[-1]
            assert waiting is not None
            holder[waiting] = value
            if len(stack) == 1:
                document.entries[waiting] = (start, position)
        state = "next"
    rest = _SPACE.match(data, position)
    end = rest.end() if rest else position
    if end != len(data):
        raise _StopError(JsonFault("syntax", f"{len(data) - end:,} bytes after the end of the document", end))
    document.complete = True


def _string(token: "re.Match[bytes]", begin: int) -> str | None:
    plain: bytes | None = token.group(2)
    if plain is not None:
        return plain.decode("utf-8")
    escaped: bytes | None = token.group(3)
    if escaped is None:
        return None
    try:
        text: str = json.loads(escaped)
    except ValueError:
        raise _StopError(JsonFault("syntax", f"invalid escape in a string at byte {begin}", begin)) from None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _StopError(JsonFault("encoding", "a string holds half of a surrogate pair", begin)) from None
    return text


def _scalar(token: "re.Match[bytes]", begin: int) -> Any:
    text = _string(token, begin)
    if text is not None:
        return text
    name: bytes | None = token.group(7)
    if name is not None:
        return _NAMES[name]
    if token.group(5) is None and token.group(6) is None:
        digits: bytes = token.group(4)
        if len(digits) > _DIGITS:
            raise _StopError(JsonFault("limit", f"an integer of {len(digits):,} digits", begin))
        # JSON's -0 is not a natural number; as a float it is refused wherever an integer is needed.
        return int(digits) if digits != b"-0" else -0.0
    return float(token.group(0))


_WANTED = {
    "value": "a value",
    "value-or-end": "a value or ']'",
    "key": "a key in double quotes",
    "key-or-end": "a key in double quotes or '}'",
    "colon": "':'",
    "next": "',' or the end of the object or array",
}


def _syntax(data: bytes, position: int, state: str) -> JsonFault:
    space = _SPACE.match(data, position)
    at = space.end() if space else position
    there = "the document ends" if at >= len(data) else f"found {_quote(data[at : at + 12])}"
    return JsonFault("syntax", f"needed {_WANTED[state]} at byte {at}, {there}", at)


def _quote(cut: bytes) -> str:
    return "'" + "".join(chr(b) if 0x20 <= b < 0x7F and b != 0x5C else f"\\x{b:02x}" for b in cut) + "'"
