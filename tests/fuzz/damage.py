"""Damage to bytes and to JSON, drawn from a random generator: the same seed does the same damage."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.fuzz.truth import LAYOUT_FIELDS

# --- damage to bytes ---

_TOKENS = (
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b"\n", b" ", b"-", b"0", b"1e9", b"null", b"true", b"NaN", b"-0", b"1.0", b"\\u0000", b"\\ud800", b'"dtype":',
    b'"__metadata__":{', b'"weight_map":', b"18446744073709551616", b"BF16", b"F32", b'"shape":[]', b"{}", b"/*",
)  # fmt: skip


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def replace_bytes(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    token = _token(rng)
    return data[:at] + token + data[at + len(token) :]


def insert_bytes(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + _token(rng) + data[at:]


def delete_bytes(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 1, 2, 5, 40, 400)) :]


def repeat_bytes(rng: random.Random, data: bytes) -> bytes:
    at, length = _place(rng, data), rng.choice((1, 4, 30, 200))
    return data[: at + length] + data[at : at + length] + data[at + length :]


def move_bytes(rng: random.Random, data: bytes) -> bytes:
    at, length = _place(rng, data), rng.choice((1, 4, 30, 200))
    piece, rest = data[at : at + length], data[:at] + data[at + length :]
    to = rng.randrange(len(rest) + 1)
    return rest[:to] + piece + rest[to:]


def tweak_number(rng: random.Random, data: bytes) -> bytes:
    """Change one run of digits, wherever it stands: in a name, a shape, an offset, a size."""
    start = _place(rng, data)
    for at in range(start, min(start + 400, len(data))):
        if data[at : at + 1].isdigit():
            end = at
            while data[end : end + 1].isdigit():
                end += 1
            number = int(data[at:end][:4000] or b"0")
            return data[:at] + _other_number(rng, number).encode() + data[end:]
    return flip_bits(rng, data)


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))] if rng.random() < 0.7 else data[: -rng.randrange(1, min(12, len(data)))]


def _other_number(rng: random.Random, number: int) -> str:
    return str(rng.choice((
        number + 1, number - 1, number * 2, number // 2, 0, -number, number + 128, 1 << 31, 1 << 53, 1 << 63, 1 << 64,
        10**30, f"{number}.0", f"{number}e0", f"0{number}", f"{number}0", rng.randrange(1 << 20),
    )))  # fmt: skip


def _token(rng: random.Random) -> bytes:
    return rng.choice(_TOKENS) if rng.random() < 0.7 else rng.randbytes(rng.choice((1, 2, 4, 16)))


def _place(rng: random.Random, data: bytes) -> int:
    """A place in data; the first and last bytes, where structure is densest, come up more often."""
    last = max(len(data) - 1, 0)
    draw = rng.random()
    if draw < 0.1:
        return min(rng.randrange(16), last)
    return max(0, last - rng.randrange(16)) if draw < 0.2 else rng.randint(0, last)


BYTE_DAMAGE = (flip_bits, replace_bytes, insert_bytes, delete_bytes, repeat_bytes, move_bytes, tweak_number, truncate)


# --- damage to JSON: objects are lists of pairs, so that a key may come twice and order is free ---


class Pairs(list[tuple[str, Any]]):
    """A JSON object as the pairs that stand in it."""


class Raw(str):
    """Text that is written as it is."""

    __slots__ = ()


def load_pairs(text: bytes) -> Any:
    return json.loads(text, object_pairs_hook=Pairs)


def dump_pairs(value: Any, rng: random.Random, loose: bool) -> str:
    """JSON text; `loose` puts white space and escapes where JSON allows them."""
    gap = (lambda: rng.choice(("", "", "", " ", "\n", "\t "))) if loose else (lambda: "")
    if isinstance(value, Pairs):
        inner = ",".join(
            f"{gap()}{_dump_string(k, rng, loose)}{gap()}:{gap()}{dump_pairs(v, rng, loose)}" for k, v in value
        )
        return f"{{{inner}{gap()}}}"
    if isinstance(value, list):
        return f"[{','.join(gap() + dump_pairs(each, rng, loose) + gap() for each in value)}]"
    if isinstance(value, Raw):
        return str(value)
    return _dump_string(value, rng, loose) if isinstance(value, str) else json.dumps(value)


def _dump_string(text: str, rng: random.Random, loose: bool) -> str:
    if loose and text and rng.random() < 0.05:
        at = rng.randrange(len(text))
        return f'"{json.dumps(text[:at])[1:-1]}\\u{ord(text[at]) & 0xFFFF:04x}{json.dumps(text[at + 1 :])[1:-1]}"'
    return json.dumps(text, ensure_ascii=rng.random() < 0.9)


def _objects(value: Any) -> Iterator[Pairs]:
    if isinstance(value, Pairs):
        yield value
        for _, inner in value:
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def _some_object(rng: random.Random, document: Any) -> Pairs:
    """An object with something in it: the root, one of its own objects, or any."""
    every = [each for each in _objects(document) if each]
    if not every:
        return Pairs([("only", 0)])
    draw = rng.random()
    return every[0] if draw < 0.3 else rng.choice(every[:4]) if draw < 0.6 else rng.choice(every)


def drop_key(rng: random.Random, document: Any) -> None:
    target = _some_object(rng, document)
    del target[rng.randrange(len(target))]


def repeat_key(rng: random.Random, document: Any) -> None:
    target = _some_object(rng, document)
    key, value = rng.choice(target)
    target.insert(rng.randint(0, len(target)), (key, value if rng.random() < 0.5 else junk(rng)))


def rename_key(rng: random.Random, document: Any) -> None:
    target = _some_object(rng, document)
    at = rng.randrange(len(target))
    key, value = target[at]
    others = [other for other, _ in target]
    renamed = rng.choice((
        key + "_", key[:-1], key.upper(), key.replace("_inv", ""), key.replace("weight", "bias"), "", "__metadata__",
        key.replace("layers.1.", "layers.99."), key.replace("experts.", "experts.0"), rng.choice(others),
        key + "\x00", key + "\u202e", key + "\ud800", "a" * 600, "../" + key, key.replace(".", "..", 1),
    ))  # fmt: skip
    target[at] = (renamed, value)


def replace_value(rng: random.Random, document: Any) -> None:
    target = _some_object(rng, document)
    at = rng.randrange(len(target))
    key, value = target[at]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.7:
        target[at] = (key, Raw(_other_number(rng, value)))
    elif isinstance(value, list) and value and not isinstance(value, Pairs) and rng.random() < 0.8:
        changed = list(value)
        changed[rng.randrange(len(changed))] = (
            Raw(_other_number(rng, changed[0])) if type(changed[0]) is int and rng.random() < 0.7 else junk(rng)
        )
        target[at] = (key, rng.choice((changed, value + value[:1], value[:-1], value[::-1], [value])))
    elif isinstance(value, str) and rng.random() < 0.7:
        target[at] = (key, rng.choice((value + "x", value[:-1], value.lower(), value.upper(), "../x", *_WORDS)))
    else:
        target[at] = (key, junk(rng))


def swap_values(rng: random.Random, document: Any) -> None:
    target = _some_object(rng, document)
    a, b = rng.randrange(len(target)), rng.randrange(len(target))
    (key_a, value_a), (key_b, value_b) = target[a], target[b]
    target[a], target[b] = (key_a, value_b), (key_b, value_a)


def add_key(rng: random.Random, document: Any) -> None:
    target = _some_object(rng, document)
    entry = Pairs([("dtype", rng.choice(_WORDS)), ("shape", [rng.randrange(4)]), ("data_offsets", [0, 0])])
    name = rng.choice(("extra", "model.layers.2.extra.weight", "__metadata__", "dtype", *LAYOUT_FIELDS))
    target.insert(rng.randint(0, len(target)), (name, rng.choice((entry, junk(rng), rng.choice(_WORDS)))))


def shift_offsets(rng: random.Random, document: Any) -> None:
    """Move, swap or stretch data_offsets, the rest of the header left sound."""
    entries = [entry for entry in _objects(document) if _two_numbers(dict(entry).get("data_offsets"))]
    if not entries:
        return replace_value(rng, document)
    entry, other = rng.choice(entries), rng.choice(entries)
    begin, end = dict(entry)["data_offsets"]
    step = rng.choice((1, -1, 8, -8, 1 << 20, 1 << 63))
    offsets = rng.choice((
        [begin + step, end + step], [begin, end + step], [begin + step, end], [end, begin], [begin, begin],
        dict(other)["data_offsets"], [0, end - begin],
    ))  # fmt: skip
    entry[:] = [(key, offsets if key == "data_offsets" else value) for key, value in entry]
    return None


def _two_numbers(value: Any) -> bool:
    return isinstance(value, list) and [type(each) for each in value] == [int, int]


def shuffle_keys(rng: random.Random, document: Any) -> None:
    rng.shuffle(_some_object(rng, document))


def edit_metadata(rng: random.Random, document: Any) -> None:
    """Free text where free text is allowed, and sometimes where it is not."""
    if not isinstance(document, Pairs):
        return
    for key, value in document:
        if key in ("__metadata__", "metadata") and isinstance(value, Pairs):
            value.append((rng.choice(("format", "note", "total_size", "\u202e", "")), rng.choice((*_WORDS, junk(rng)))))
            return
    document.append(("__metadata__", Pairs([("format", rng.choice(_WORDS))])))


_WORDS = (
    "", "pt", "BF16", "F32", "F16", "F8_E4M3", "F8_E5M2", "I4", "F4", "C64", "float32", "bfloat16", "deepseek_v32",
    "model-00001-of-000005.safetensors", "model-00009-of-000005.safetensors", "config.json", "/dev/zero", "\x1b[31m",
    "<script>alert(1)</script>", "\ud83d\ude00", "\udfff", "a" * 5000,
)  # fmt: skip


def junk(rng: random.Random) -> Any:
    """A value that has no business there."""
    depth = rng.choice((3, 70, 3000))
    return rng.choice((
        None, True, False, 0, -1, 1, 1.5, 128, 1 << 62, Raw("1e400"), Raw("-0"), Raw("NaN"), Raw("1" * 5000), "", "7",
        [], [[]], [0], [128, 128], [-1, 2], [1 << 40, 1 << 40], Pairs(), Pairs([("a", 1), ("a", 2)]), [None],
        Raw("[" * depth + "]" * depth), Raw('{"a":' * depth + "1" + "}" * depth), rng.choice(_WORDS),
    ))  # fmt: skip


JSON_DAMAGE = (
    drop_key, repeat_key, rename_key, replace_value, replace_value, swap_values, add_key, shift_offsets, shuffle_keys,
    edit_metadata,
)  # fmt: skip


def damage_json(rng: random.Random, body: bytes) -> tuple[bytes, str]:
    """A JSON document with one to three things wrong, and the last kind of damage; white space alone at times."""
    try:
        document = load_pairs(body)
    except (ValueError, RecursionError):
        return flip_bits(rng, body or b"0"), "flip_bits"
    kind = "white space and escapes"
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        step: Callable[[random.Random, Any], None] = rng.choice(JSON_DAMAGE)
        step(rng, document)
        kind = step.__name__
    return dump_pairs(document, rng, loose=rng.random() < 0.3).encode("utf-8", "surrogatepass"), kind


def damage_bytes(rng: random.Random, body: bytes) -> tuple[bytes, str]:
    """Bytes with one thing wrong, and the kind of damage."""
    step = rng.choice(BYTE_DAMAGE)
    return step(rng, body or b"0"), step.__name__


def damage_document(rng: random.Random, body: bytes) -> tuple[bytes, str]:
    """A JSON document damaged as bytes or as JSON."""
    return damage_bytes(rng, body) if rng.random() < 0.4 and body else damage_json(rng, body)
