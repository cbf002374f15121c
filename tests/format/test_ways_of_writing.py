"""A header means the same however it is written, and is proven sound by the fast path only where it is."""

import json
import random
import time
from math import prod

import msgspec
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.format import headers
from auditor.format.dtypes import DTYPES, packed_bytes
from auditor.format.entries import TensorHeader
from auditor.format.headers import Header, parse_header
from auditor.format.proof import quotes
from auditor_schemas.policy import Limits

LIMITS = Limits()
METADATA = "__metadata__"
WAYS = ("compact", "spaced", "indented", "padded", "escaped", "anyhow")


class Members(list):
    """An object as its pairs in order, of which several may have one key."""


class Number(str):
    """A number as it is spelt."""


class Way:
    """How a document is written: whitespace between tokens, and escapes in strings."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name, self.rng = name, rng

    def gap(self, usual: str = "") -> str:
        if self.name in ("padded", "anyhow"):
            return "".join(self.rng.choices(" \t\r\n", k=self.rng.choice((0, 0, 1, 3))))
        return usual if self.name == "spaced" else "\n  " if self.name == "indented" else ""

    def string(self, text: str) -> str:
        if self.name not in ("escaped", "anyhow"):
            return json.dumps(text, ensure_ascii=False)
        return '"' + "".join(map(self.character, text)) + '"'

    def character(self, each: str) -> str:
        plain, ascii_ = (json.dumps(each, ensure_ascii=it)[1:-1] for it in (False, True))
        spelt = [plain, ascii_, "\\/" if each == "/" else plain]
        if ord(each) < 0x10000:
            digits = f"{ord(each):04x}"
            spelt += [f"\\u{digits}", f"\\u{digits.upper()}"]
        return self.rng.choice(spelt)

    def value(self, value) -> str:
        if isinstance(value, Number):
            return str(value)
        if isinstance(value, str):
            return self.string(value)
        between = "," + self.gap(" ")
        if isinstance(value, Members):
            pairs = (f"{self.string(key)}{self.gap()}:{self.gap(' ')}{self.value(each)}" for key, each in value)
            return "{" + self.gap() + between.join(pairs) + self.gap() + "}"
        if isinstance(value, list):
            return "[" + self.gap() + between.join(map(self.value, value)) + self.gap() + "]"
        return json.dumps(value)

    def document(self, members: Members) -> bytes:
        return (self.value(members) + self.rng.choice(("", " ", "   \n\t")) * (self.name != "compact")).encode()


# Names that a count of quotation marks or a search for numbers could stumble over stand beside any others.
AWKWARD = st.sampled_from(
    ['"', "\\", '\\"', '\\\\"', ' "', '},"__metadata__":{', METADATA + " ", "[-0", ",-0", "-0", "1e3", "{", "},", "a b",
     "dtype", "shape", "data_offsets", "format", "\x00", "\x7f", "\u2028", "\U0001f600"]
)  # fmt: skip
names = (AWKWARD | st.text(st.characters(exclude_categories=("Cs",)), max_size=8)).filter(METADATA.__ne__)
kinds = st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=4)).map(
    lambda kind: (kind[0], [*kind[1], 4] if kind[0].startswith(("F4", "F6")) else kind[1])
)


@st.composite
def sound(draw, least=0):
    """The members of a sound header, its entries and their fields in any order; and the bytes of data behind it."""
    members, position = Members(), 0
    for name, (dtype, shape) in draw(st.dictionaries(names, kinds, min_size=least, max_size=5)).items():
        end = position + packed_bytes(dtype, prod(shape))
        numbers = [[Number(n) for n in each] for each in (shape, (position, end))]
        fields = [("dtype", dtype), ("shape", numbers[0]), ("data_offsets", numbers[1])]
        members.append((name, Members(draw(st.permutations(fields)))))
        position = end
    metadata = draw(st.none() | st.dictionaries(names, names, max_size=3))
    if metadata is not None:
        members.append((METADATA, Members(metadata.items())))
    return Members(draw(st.permutations(members))), position


def meaning(members: Members) -> tuple[dict[str, TensorHeader], dict[str, str] | None]:
    entries = {name: dict(value) for name, value in members}
    metadata = entries.pop(METADATA, None)
    return {
        name: TensorHeader(each["dtype"], tuple(map(int, each["shape"])), tuple(map(int, each["data_offsets"])))
        for name, each in entries.items()
    }, metadata


def reference(raw: bytes, size: int):
    """What safetensors makes of it: name → (dtype, shape); None where it refuses."""
    try:
        found = safetensors.deserialize(len(raw).to_bytes(8, "little") + raw + bytes(size))
    except safetensors.SafetensorError:
        return None
    return {name: (info["dtype"], tuple(info["shape"])) for name, info in found}


def unique(pairs):
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def looks_like_minus_zero(members: Members) -> bool:
    return any(any(each in text for each in ("[-0", ",-0", " -0", ":-0")) for text in flat(members))


def flat(value):
    if isinstance(value, Members):
        return [text for key, each in value for text in (key, *flat(each))]
    return [value] if isinstance(value, str) and not isinstance(value, Number) else []


@given(sound(), st.sampled_from(WAYS), st.randoms(use_true_random=False))
def test_a_sound_header_is_proven_and_means_the_same_however_it_is_written(drawn, way, rng):
    members, size = drawn
    raw = Way(way, rng).document(members)
    tensors, metadata = meaning(members)
    header = parse_header(raw, size, LIMITS)
    assert msgspec.structs.replace(header, tiling=None, entries=0, values=0) == Header(tensors, metadata, (), True)
    assert list(header.tensors) == list(tensors)
    assert header.tiling is not None
    assert header.tiling.tensors() == tensors
    explained = headers._explain(raw, size, LIMITS)
    assert msgspec.structs.replace(explained, entries=0, values=0) == msgspec.structs.replace(
        header, entries=0, values=0
    )
    assert reference(raw, size) == {name: (each.dtype, each.shape) for name, each in tensors.items()}
    # Where a key of the metadata is spelt with escapes, or a string looks like a number, the strict reader has it.
    if way not in ("escaped", "anyhow") and not looks_like_minus_zero(members):
        assert headers._prove(raw, LIMITS) is not None


NUMBERS = (
    "{}.0",
    "{}e0",
    "{}E+0",
    "-{}",
    "0{}",
    "{}.",
    "+{}",
    "{}00e-2",
    '"{}"',
    "[{}]",
    "9" * 300 + "{}",
    "true",
    "null",
)


def numbers(members: Members) -> list:
    return [
        (array, at)
        for name, entry in members
        if name != METADATA
        for key, array in entry
        if key != "dtype"
        for at in range(len(array))
    ]


def a_number_otherwise(members, rng):
    array, at = rng.choice(numbers(members))
    array[at] = Number(rng.choice(NUMBERS).format(array[at]))


def a_key_twice(members, rng):
    holders = [members, *(value for _, value in members)]
    holder = rng.choice([each for each in holders if each])
    key, value = rng.choice(holder)
    holder.insert(rng.randint(0, len(holder)), (key, value if rng.random() < 0.5 else another(value)))


def another(value):
    return "U8" if isinstance(value, str) else Members() if isinstance(value, Members) else [Number(0), Number(1)]


def metadata_twice(members, rng):
    for _ in range(2):
        members.insert(rng.randint(0, len(members)), (METADATA, Members([("format", "pt")])))


def an_entry(members, rng) -> Members:
    return rng.choice([value for name, value in members if name != METADATA])


def a_field_too_many(members, rng):
    fields = an_entry(members, rng)
    fields.insert(rng.randint(0, 3), (rng.choice(("strides", "", "Dtype", METADATA)), rng.choice(("U8", [Number(1)]))))


def a_field_too_few(members, rng):
    fields = an_entry(members, rng)
    del fields[rng.randrange(3)]


def a_field_for_another(members, rng):
    fields = an_entry(members, rng)
    at = rng.randrange(3)
    fields[at] = (fields[(at + 1) % 3][0], fields[at][1] if rng.random() < 0.5 else fields[(at + 1) % 3][1])


def a_dtype_that_is_none(members, rng):
    fields = an_entry(members, rng)
    at = next(at for at, (key, _) in enumerate(fields) if key == "dtype")
    fields[at] = ("dtype", rng.choice(("F2", "u8", "U8 ", "", Number(1), None, [Number(1)])))


def metadata_of_another_kind(members, rng):
    members[:] = [each for each in members if each[0] != METADATA]
    kinds = (
        None,
        [],
        "pt",
        Number(1),
        Members([("n", Number(1))]),
        Members([("n", None)]),
        Members([("n", Members())]),
    )
    members.append((METADATA, rng.choice(kinds)))


def an_entry_of_another_kind(members, rng):
    at = rng.choice([at for at, (name, _) in enumerate(members) if name != METADATA])
    members[at] = (members[at][0], rng.choice((None, [], "U8", Number(1), Members(), True, [members[at][1]])))


DAMAGE = (
    a_number_otherwise, a_key_twice, metadata_twice, a_field_too_many, a_field_too_few, a_field_for_another,
    a_dtype_that_is_none, metadata_of_another_kind, an_entry_of_another_kind,
)  # fmt: skip


@settings(max_examples=400)
@given(
    sound(least=1),
    st.lists(st.sampled_from(DAMAGE), min_size=1, max_size=2),
    st.sampled_from(WAYS),
    st.randoms(use_true_random=False),
)
def test_no_damaged_header_is_proven_in_whatever_way_it_is_written(drawn, damages, way, rng):
    members, _ = drawn
    for damage in damages:
        try:
            damage(members, rng)
        except (IndexError, StopIteration, TypeError, ValueError):
            return  # the damage before has left nothing for this one
    raw = Way(way, rng).document(members)
    proven = headers._prove(raw, LIMITS)
    if proven is None:
        return
    # A spelling that is none after all: -1 times 0 is one, a field twice may have been taken away again.
    document = json.loads(raw, object_pairs_hook=unique, parse_float=no, parse_constant=no, parse_int=natural)
    tensors, metadata = proven
    assert document.pop(METADATA, None) == metadata
    assert all(set(entry) == {"dtype", "shape", "data_offsets"} for entry in document.values())
    assert {name: (each.dtype, list(each.shape), list(each.data_offsets)) for name, each in tensors.items()} == {
        name: (each["dtype"], each["shape"], each["data_offsets"]) for name, each in document.items()
    }


def no(text: str):
    raise ValueError(text)


def natural(text: str) -> int:
    if text == "-0":
        raise ValueError(text)
    return int(text)


ENTRY = '"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
OTHER = '"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}'
FORMAT = '"__metadata__":{"format":"pt"}'


@pytest.mark.parametrize(
    "raw",
    [
        f"\ufeff{{{ENTRY}}}",
        f" {{{ENTRY}}}",
        f"{{{ENTRY}}}}}",
        f"{{{ENTRY}}} x",
        f"{{{ENTRY}}}\0",
        f"{{{ENTRY}}},",
        f"{{{ENTRY},}}",
        f"{{{ENTRY},,{OTHER}}}",
        f"{{{ENTRY} {OTHER}}}",
        f"{{,{ENTRY}}}",
        f"[{ENTRY}]",
        f"{{{ENTRY}",
        f"{{{FORMAT}{ENTRY}}}",
        f"{{{FORMAT},}}",
        f"{{{FORMAT},,{ENTRY}}}",
        f"{{,{FORMAT},{ENTRY}}}",
        f"{{{ENTRY} {FORMAT},{OTHER}}}",
        f"{{{ENTRY},{FORMAT} {OTHER}}}",
        f"{{{ENTRY},,{FORMAT}}}",
        f"{{{ENTRY}{FORMAT}}}",
        f"{{{ENTRY},{FORMAT},}}",
        f"{{{ENTRY},{FORMAT}",
        f"{{{ENTRY}}},{FORMAT}}}",
        f"{{{ENTRY}\f,{FORMAT}}}",
        f"{{{FORMAT}\f,{ENTRY}}}",
        f"{{\xa0{FORMAT},{ENTRY}}}",
        f"{{{FORMAT},{ENTRY},{FORMAT}}}",
        f'{{{FORMAT},{ENTRY},"__met\\u0061data__":{{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}}}',
        f'{{"x}},{FORMAT}," :{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}',
        f'{{"x":{{"dtype":"U8","shape":[0],{FORMAT},"data_offsets":[0,0]}}}}',
        f'{{"x":{{"dtype":"U8","shape":[0],"data_offsets":[0,0],{FORMAT}}}}}',
        '{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}',
        '{"a":{"dtype":"U8","shape":[0],"data_offsets":[-0,0]}}',
        '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,\n-0]}}',
        '{"\\u002d0":{"dtype":"U8","shape":[ -0],"data_offsets":[0,0]}}',
        '{"a\x01":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        '{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        '{"\\q":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        '{\'a\':{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        '{"a":{"dtype":"U8","shape":[1 1],"data_offsets":[0,1]}}',
        '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}',
    ],
)
def test_what_is_no_header_is_not_proven(raw):
    assert headers._prove(raw.encode(), LIMITS) is None
    header = parse_header(raw.encode(), 2, LIMITS)
    assert header.faults


def test_bytes_that_are_no_text_are_not_proven():
    for broken in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"):
        for raw in (ENTRY.encode().replace(b"a", broken, 1), FORMAT.encode().replace(b"pt", broken)):
            assert headers._prove(b"{" + raw + b"}", LIMITS) is None
            assert parse_header(b"{" + raw + b"}", 1, LIMITS).faults


@pytest.mark.parametrize("space", ["", " "])
def test_a_header_beyond_the_limits_is_not_proven(space):
    raw = f'{{"{"n" * 99}":{space}{ENTRY.partition(":")[2]}}}'.encode()
    assert headers._prove(raw, LIMITS) is not None
    assert headers._prove(raw, Limits(name_bytes=98)) is None
    assert headers._prove(raw, Limits(json_depth=2)) is None
    many = ",".join(f'"{n:06}":{space}{ENTRY.partition(":")[2]}' for n in range(20_000))
    assert headers._prove(f"{{{many}}}".encode(), Limits(json_values=70_000)) is None


@given(st.lists(names), st.sampled_from(WAYS), st.randoms(use_true_random=False))
def test_two_quotation_marks_are_counted_for_each_string(texts, way, rng):
    assert quotes(Way(way, rng).value(texts).encode()) == 2 * len(texts)


def test_what_could_be_metadata_many_times_over_is_looked_at_once():
    unit = b'},"__metadata__":{"\\"'  # from each of them on no brace is outside a string
    began = time.process_time()
    assert headers._prove(b"{" + unit * 200_000, LIMITS) is None
    assert time.process_time() - began < 5
