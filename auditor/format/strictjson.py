"""A strict, non-recursive JSON reader that explains every fault with its byte offset.

It is the slow path: fast decoders keep the last of duplicate keys silently and give up at the first
error without saying where. Documents a fast decoder can prove well formed never come here.
"""

import codecs
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from auditor.text import quoted

FaultKind = Literal["syntax", "encoding", "duplicate-key", "depth", "limit"]

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
_DUPLICATES = 10_000  # of more than that the rest is counted: each fault costs more memory than the key that makes it
_ITEMS = 5  # of an array whose items nobody takes: a quote of it shows four and that there are more
_STEP = 1 << 20  # bytes decoded at once: a text with one character beyond 16 bits takes four bytes for each
_DIGITS = 400  # longer integers are refused: parsing them is quadratic


@dataclass(frozen=True, slots=True)
class JsonFault:
    """One fault of a document; `offset` in bytes from its start, `key` the object key concerned.

    `path` are the keys of what holds the object that has a key twice, outermost first; None stands for an array's.
    """

    kind: FaultKind
    message: str
    offset: int
    key: str | None = None
    path: tuple[str | None, ...] = ()


@dataclass(slots=True)
class Document:
    """A parsed document. `complete` is false when a fault ended the reading early.

    `value` then holds what was read before. `entries` gives the byte range of each value of the
    outermost object by key; of duplicate keys the first counts and each later one is a fault, the first
    thousands by name: `duplicates` counts all. `values` counts what was read, containers and what they hold.
    """

    value: Any = None
    complete: bool = False
    faults: list[JsonFault] = field(default_factory=list)
    entries: dict[str, tuple[int, int]] = field(default_factory=dict)
    duplicates: int = 0
    values: int = 0


# Makes what is kept of a member, from the key of the object that holds it (None for the outermost), its own key,
# its value, and where that begins and ends.
Make = Callable[[str | None, str, Any, int, int], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What a document is read for: members of the objects at one depth, each kept as what `make` makes of it.

    A document may spell a small value in one byte that takes a hundred in memory, so nothing else is held on to:
    no member has more than `most_values` values inside, and of arrays above them the first items are kept.
    `make` may raise StopError, which ends the reading.
    """

    depth: int
    most_values: int
    make: Make


class StopError(Exception):
    """Ends the reading of a document, which is then incomplete for this fault."""

    def __init__(self, fault: JsonFault) -> None:
        self.fault = fault


def parse(data: bytes, *, max_depth: int, max_values: int, keep: Keep | None = None) -> Document:
    """Read one JSON document (RFC 8259, UTF-8, no duplicate keys). Never raises on bad input."""
    document = Document()
    try:
        _check_utf8(data)
        _read(data, document, max_depth, max_values, keep)
    except StopError as stop:
        document.faults.append(stop.fault)
    return document


def _check_utf8(data: bytes) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    for begin in range(0, len(data), _STEP):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(data[begin : begin + _STEP], final=begin + _STEP >= len(data))
        except UnicodeDecodeError as error:
            at = begin - pending + error.start
            raise StopError(JsonFault("encoding", f"not UTF-8: byte 0x{data[at]:02x} at byte {at}", at)) from None


class _Open:
    """An object or array that is being read: the key that waits for its value, and whether that is one too many."""

    __slots__ = ("key", "twice", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.key: str | None = None
        self.twice = False


def _read(data: bytes, document: Document, max_depth: int, max_values: int, keep: Keep | None) -> None:
    stack: list[_Open] = []  # outermost first
    state = "value"  # value, value-or-end, key, key-or-end, colon, next
    position = 0
    start = 0  # where the current value begins that is taken or has an entry
    depth = 1 if keep is None else keep.depth
    inside = 0  # values in the member at that depth
    while True:
        before = position
        token = _TOKEN.match(data, position)
        if token is None:
            raise StopError(_syntax(data, before, state))
        mark = token.group(1)
        position = token.end()
        if mark in (b"}", b"]"):
            if not _closes(mark, state, stack):
                raise StopError(_syntax(data, before, state))
            value = stack.pop().value
        elif state in ("key", "key-or-end"):
            key = _string(data, token, before)
            if key is None:
                raise StopError(_syntax(data, before, state))
            _take_key(key, stack, document, keep, data, before)
            state = "colon"
            continue
        elif state == "colon":
            if mark != b":":
                raise StopError(_syntax(data, before, state))
            if len(stack) == depth:
                start = _behind_space(data, position)
            state = "value"
            continue
        elif state == "next":
            if mark != b",":
                raise StopError(_syntax(data, before, state))
            state = "key" if isinstance(stack[-1].value, dict) else "value"
            continue
        else:
            document.values += 1
            if document.values > max_values:
                raise _limit(data, before, f"more than {max_values:,} values (json_values)")
            if keep is not None:
                inside = inside + 1 if len(stack) > depth else 0
                if inside > keep.most_values:
                    raise _limit(data, before, f"more than {keep.most_values:,} values in one entry")
            if mark in (b"{", b"["):
                if len(stack) >= max_depth:
                    text = f"nested deeper than {max_depth} levels (json_depth)"
                    raise StopError(JsonFault("depth", text, _behind_space(data, before)))
                stack.append(_Open({} if mark == b"{" else []))
                if len(stack) == 1:
                    document.value = stack[0].value
                state = "key-or-end" if mark == b"{" else "value-or-end"
                continue
            if mark is not None:
                raise StopError(_syntax(data, before, state))
            value = _scalar(data, token, before)
        if not stack:
            document.value = value
            break
        _hand_over(value, stack, document, keep, (start, position))
        state = "next"
    end = _behind_space(data, position)
    if end != len(data):
        raise StopError(JsonFault("syntax", f"{len(data) - end:,} bytes after the end of the document", end))
    document.complete = True


def _closes(mark: bytes, state: str, stack: list[_Open]) -> bool:
    """Whether what is open ends with this mark here."""
    if mark == b"}":
        return state == "key-or-end" or (state == "next" and isinstance(stack[-1].value, dict))
    return state == "value-or-end" or (state == "next" and isinstance(stack[-1].value, list))


def _take_key(key: str, stack: list[_Open], document: Document, keep: Keep | None, data: bytes, before: int) -> None:
    """Let the object that is open wait for this key's value."""
    opened = stack[-1]
    if keep is not None and len(stack) < keep.depth and len(opened.value) >= keep.most_values:
        raise _limit(data, before, f"more than {keep.most_values:,} keys in one object")
    opened.key, opened.twice = key, key in opened.value
    if opened.twice:
        document.duplicates += 1
        if document.duplicates <= _DUPLICATES:
            path = tuple(each.key for each in stack[:-1])
            at = _behind_space(data, before)
            document.faults.append(JsonFault("duplicate-key", "duplicate key", at, key, path))


def _hand_over(value: Any, stack: list[_Open], document: Document, keep: Keep | None, span: tuple[int, int]) -> None:
    """Give a value that is complete to what it stands in."""
    opened = stack[-1]
    holder = opened.value
    if isinstance(holder, list):
        if keep is None or len(stack) > keep.depth or len(holder) < _ITEMS:
            holder.append(value)
        return
    key = opened.key
    assert key is not None
    if keep is None:
        if not opened.twice:
            holder[key] = value
            if len(stack) == 1:
                document.entries[key] = span
    elif not any(each.twice for each in stack):
        if len(stack) == keep.depth:
            value = keep.make(stack[-2].key if keep.depth > 1 else None, key, value, *span)
        holder[key] = value


def _limit(data: bytes, before: int, text: str) -> StopError:
    return StopError(JsonFault("limit", text, _behind_space(data, before)))


def _behind_space(data: bytes, position: int) -> int:
    space = _SPACE.match(data, position)
    return space.end() if space else position


def _string(data: bytes, token: "re.Match[bytes]", before: int) -> str | None:
    plain: bytes | None = token.group(2)
    if plain is not None:
        return plain.decode("utf-8")
    escaped: bytes | None = token.group(3)
    if escaped is None:
        return None
    try:
        text: str = json.loads(escaped)
        text.encode("utf-8")
    except UnicodeEncodeError:
        at = _behind_space(data, before)
        raise StopError(JsonFault("encoding", "a string holds half of a surrogate pair", at)) from None
    except ValueError:
        at = _behind_space(data, before)
        raise StopError(JsonFault("syntax", f"invalid escape in a string at byte {at}", at)) from None
    return text


def _scalar(data: bytes, token: "re.Match[bytes]", before: int) -> Any:
    text = _string(data, token, before)
    if text is not None:
        return text
    name: bytes | None = token.group(7)
    if name is not None:
        return _NAMES[name]
    if token.group(5) is None and token.group(6) is None:
        digits: bytes = token.group(4)
        if len(digits) > _DIGITS:
            at = _behind_space(data, before)
            raise StopError(JsonFault("syntax", f"an integer of {len(digits):,} digits at byte {at}", at))
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
    at = _behind_space(data, position)
    there = "the document ends" if at >= len(data) else f"found {quoted(data[at : at + 12])}"
    return JsonFault("syntax", f"needed {_WANTED[state]} at byte {at}, {there}", at)
