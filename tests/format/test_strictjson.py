"""The strict JSON reader agrees with RFC 8259 and says where a document leaves it."""

import json
import math
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditor.format.strictjson import Document, Keep, parse

DEPTH, VALUES = 64, 100_000


def read(data: bytes, *, max_depth: int = DEPTH, max_values: int = VALUES) -> Document:
    return parse(data, max_depth=max_depth, max_values=max_values)


def only_fault(data: bytes, **limits: int):
    document = read(data, **limits)
    assert len(document.faults) == 1
    return document.faults[0]


# Text that UTF-8 can carry: half surrogates have their own tests.
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)
styles = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, 0, 2, "\t", " \r\n\t"]),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n ")]),
    }
)


@given(values, styles)
def test_every_json_value_is_read_as_it_was_written(value, style):
    document = read(json.dumps(value, **style).encode())
    assert document.value == value
    assert repr(document.value) == repr(value)  # 1 is not 1.0 and not true
    assert document.complete
    assert not document.faults


@given(st.dictionaries(texts, values, max_size=5), styles)
def test_entries_are_the_exact_bytes_of_the_outermost_values(value, style):
    data = json.dumps(value, **style).encode()
    document = read(data)
    assert document.entries.keys() == value.keys()
    for key, (begin, end) in document.entries.items():
        cut = data[begin:end]
        assert cut == cut.strip(b" \t\r\n")
        assert json.loads(cut) == value[key]


class _RefusedError(Exception):
    """The document breaks a rule that this reader adds to those of json.loads."""


def strictly(data: bytes):
    """json.loads with the documented strictness added: duplicate keys, constants, half surrogates, no BOM."""

    def unique(pairs):
        if len({key for key, _ in pairs}) != len(pairs):
            raise _RefusedError
        return dict(pairs)

    def constant(name):
        raise _RefusedError

    value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def agrees_with_json(data: bytes) -> None:
    document = read(data)
    try:
        value = strictly(data)
    except (ValueError, _RefusedError):
        assert document.faults, data
        return
    assert document.complete, data
    assert not document.faults, data
    assert document.value == value, data


fragments = st.sampled_from(
    [b"{", b"}", b"[", b"]", b",", b":", b'"', b'"a"', b'"\\u0041"', b'"\\ud800"', b'"\\ud83d\\ude00"', b"\\", b"1",
     b"-", b"-0", b"0", b"01", b"1.", b"1.5", b"1e", b"1e5", b"1E+5", b".5", b"+1", b"0x1", b"true", b"True", b"null",
     b"NaN", b"Infinity", b"-Infinity", b" ", b"\n", b"\t", b"\x00", b"\x0b", b"\x7f", b"\xc2\xa0", b"\xef\xbb\xbf",
     b"\xff", b"//", b"/**/", b"'a'", b"a", b'{"a":1}', b'{"a":1,"a":1}', b'["\\x"]', b'"\\u00g0"', b'"\\u12"']
)  # fmt: skip


@given(st.lists(fragments, max_size=8).map(b"".join))
@example(b"1 2")
@example(b"[1,]")
@example(b'{"a":1,}')
@example(b'"\\')
@example(b'"\\u"')
@example(b'"\\u123"')
@example(b'{"a" "b"}')
def test_a_document_made_of_tokens_is_valid_exactly_where_json_says_so(data):
    agrees_with_json(data)


@given(values, st.data())
def test_one_changed_byte_is_judged_as_json_judges_it(value, data):
    document = bytearray(json.dumps(value).encode())
    at = data.draw(st.integers(0, len(document) - 1))
    document[at] = data.draw(st.integers(0, 255))
    agrees_with_json(bytes(document))


@given(values, st.data())
def test_a_document_cut_short_is_judged_as_json_judges_it(value, data):
    document = json.dumps(value).encode()
    agrees_with_json(document[: data.draw(st.integers(0, len(document)))])


@given(st.binary(max_size=40))
def test_arbitrary_bytes_never_raise(data):
    agrees_with_json(data)


@pytest.mark.parametrize(
    ("data", "kind", "offset", "says"),
    [
        (b"", "syntax", 0, "needed a value at byte 0, the document ends"),
        (b"  \n", "syntax", 3, "the document ends"),
        (b"{", "syntax", 1, "needed a key in double quotes or '}' at byte 1, the document ends"),
        (b"[1 2]", "syntax", 3, "needed ',' or the end of the object or array at byte 3, found '2]'"),
        (b"[1,]", "syntax", 3, "needed a value at byte 3, found ']'"),
        (b'{"a":1,}', "syntax", 7, "needed a key in double quotes at byte 7, found '}'"),
        (b'{"a" 1}', "syntax", 5, "needed ':' at byte 5, found '1}'"),
        (b"{a:1}", "syntax", 1, "found 'a:1}'"),
        (b"{1:1}", "syntax", 1, "needed a key in double quotes or '}' at byte 1, found '1:1}'"),
        (b"{'a':1}", "syntax", 1, "needed a key"),
        (b"[}", "syntax", 1, "needed a value or ']' at byte 1, found '}'"),
        (b"[1}", "syntax", 2, "found '}'"),
        (b"NaN", "syntax", 0, "found 'NaN'"),
        (b"[Infinity]", "syntax", 1, "found 'Infinity]'"),
        (b"[-Infinity]", "syntax", 1, "found '-Infinity]'"),
        (b"01", "syntax", 0, "found '01'"),
        (b"[1.]", "syntax", 1, "found '1.]'"),
        (b"[+1]", "syntax", 1, "found '+1]'"),
        (b"[0x10]", "syntax", 2, "found 'x10]'"),
        (b'["a\nb"]', "syntax", 1, "found '\"a\\x0ab\"]'"),
        (b'["a\x00"]', "syntax", 1, "\\x00"),
        (b'["\\x41"]', "syntax", 1, "invalid escape in a string at byte 1"),
        (b'["\\u12"]', "syntax", 1, "invalid escape in a string at byte 1"),
        (b'{"\\q":1}', "syntax", 1, "invalid escape in a string at byte 1"),
        (b'["open', "syntax", 1, "found '\"open'"),
        (b"{} {}", "syntax", 3, "2 bytes after the end of the document"),
        (b"{}\x00", "syntax", 2, "1 bytes after the end of the document"),
        (b"[1]// why", "syntax", 3, "6 bytes after the end"),
        (b"\xef\xbb\xbf{}", "syntax", 0, "found '\\xef\\xbb\\xbf{}'"),
        (b'["\xff"]', "encoding", 2, "not UTF-8: byte 0xff at byte 2"),
        (b'["\xed\xa0\x80"]', "encoding", 2, "not UTF-8: byte 0xed at byte 2"),
        (b"{\x00}\x00".replace(b"\x00", b"\xc3"), "encoding", 1, "not UTF-8: byte 0xc3 at byte 1"),
        (b'[1, "\\ud800"]', "encoding", 4, "half of a surrogate pair"),
        (b'{"\\udc00": 1}', "encoding", 1, "half of a surrogate pair"),
    ],
)
def test_each_fault_has_its_kind_offset_and_words(data, kind, offset, says):
    fault = only_fault(data)
    assert (fault.kind, fault.offset) == (kind, offset)
    assert says in fault.message
    assert not read(data).complete


def test_a_surrogate_pair_is_one_character():
    assert read(b'"\\ud83d\\ude00"').value == "\U0001f600"


def test_every_duplicate_key_is_reported_and_the_first_value_stays():
    data = b'{"a": 1, "b": {"c": 2, "c": [3]}, "a": {"d": 4, "d": 5}, "\\u0061": 6}'
    document = read(data)
    assert document.complete
    assert document.value == {"a": 1, "b": {"c": 2}}
    assert [(fault.kind, fault.key, fault.offset) for fault in document.faults] == [
        ("duplicate-key", "c", 23),
        ("duplicate-key", "a", 34),
        ("duplicate-key", "d", 48),
        ("duplicate-key", "a", 57),
    ]
    assert data[slice(*document.entries["a"])] == b"1"


def test_a_negative_zero_is_no_natural_number():
    value = read(b"-0").value
    assert isinstance(value, float)
    assert math.copysign(1, value) == -1


def test_numbers_keep_their_kind():
    value = read(b"[0, -1, 1.0, 1e2, 1E-2, 12345678901234567890123]").value
    assert [type(number) for number in value] == [int, int, float, float, float, int]
    assert value == [0, -1, 1.0, 100.0, 0.01, 12345678901234567890123]


def test_an_integer_of_more_than_400_digits_is_no_number_that_a_reader_has_and_refused_at_once():
    assert read(b"9" * 400).value == 10**400 - 1
    begin = time.perf_counter()
    fault = only_fault(b"[" + b"9" * 5_000_000 + b"]")
    assert (fault.kind, fault.offset, fault.message) == ("syntax", 1, "an integer of 5,000,000 digits at byte 1")
    assert time.perf_counter() - begin < 1


def test_nesting_is_limited_to_the_level():
    assert read(b"[" * 3 + b"]" * 3, max_depth=3).complete
    fault = only_fault(b"[" * 4 + b"]" * 4, max_depth=3)
    assert (fault.kind, fault.offset, fault.message) == ("depth", 3, "nested deeper than 3 levels (json_depth)")


def test_values_are_limited_in_number():
    assert read(b"[1,2]", max_values=3).complete
    fault = only_fault(b"[1,2,3]", max_values=3)
    assert (fault.kind, fault.offset, fault.message) == ("limit", 5, "more than 3 values (json_values)")


def test_empty_arrays_count_once():
    assert read(b"[[],[]]", max_values=3).complete


@pytest.mark.parametrize("unit", [b"[", b'{"a":', b'[{"a":'])
def test_a_million_brackets_are_refused_at_once_without_recursion(unit):
    begin = time.perf_counter()
    document = read(unit * 1_000_000)
    assert document.faults[0].kind == "depth"
    assert not document.complete
    assert time.perf_counter() - begin < 1


def test_deep_nesting_within_the_limit_needs_no_recursion():
    document = read(b"[" * 900_000 + b"]" * 900_000, max_depth=1_000_000, max_values=1_000_000)
    assert document.complete
    # Unwound by hand: comparing or freeing so deep a list is the interpreter's recursion, not the reader's.
    value = document.value
    while value:
        value = value.pop()


@pytest.mark.parametrize(
    "data",
    [
        b'"' + b"a" * 8_000_000,
        b'"\\n' + b"a" * 8_000_000,
        b'"' + b"\\n" * 4_000_000,
        b" " * 8_000_000,
        b"1" * 8_000_000 + b".",
    ],
    ids=["open string", "open string with an escape", "open string of escapes", "spaces", "a number without an end"],
)
def test_long_tokens_that_lead_nowhere_are_refused_in_linear_time(data):
    begin = time.perf_counter()
    assert only_fault(data).kind == "syntax"
    assert time.perf_counter() - begin < 2


def test_what_was_read_before_a_fault_is_kept():
    document = read(b'{"a": 1, "b": [2, 3], "c": tru')
    assert document.value == {"a": 1, "b": [2, 3]}
    assert not document.complete
    assert document.entries.keys() == {"a", "b"}


def test_duplicates_before_a_syntax_fault_are_reported_beside_it():
    faults = read(b'{"a":1,"a":2,').faults
    assert [(fault.kind, fault.offset) for fault in faults] == [("duplicate-key", 7), ("syntax", 13)]


def test_of_duplicate_keys_without_end_all_are_counted_and_the_first_told():
    document = read(b'{"a":1' + b',"a":1' * 20_000 + b"}")
    assert document.complete
    assert document.duplicates == 20_000
    assert len(document.faults) == 10_000


def test_a_duplicate_key_says_what_holds_it():
    faults = read(b'{"a": {"b": [{"c": 1, "c": 2}], "b": 3}, "a": 4}').faults
    assert [(fault.key, fault.path) for fault in faults] == [("c", ("a", "b", None)), ("b", ("a",)), ("a", ())]


# --- a document of which little is kept


def taken(data: bytes, *, depth: int = 1, most_values: int = 100) -> tuple[Document, list]:
    """What is handed over, with the bytes of each value, and what the document keeps: the number of each."""
    found = []

    def make(outer, key, value, begin, end):
        found.append((outer, key, value, data[begin:end]))
        return len(found)

    keep = Keep(depth=depth, most_values=most_values, make=make)
    return parse(data, max_depth=DEPTH, max_values=VALUES, keep=keep), found


def test_members_are_handed_over_one_by_one_and_kept_as_what_is_made_of_them():
    document, found = taken(b'{"a": {"x": [1, {"y": 2}]}, "b": 3, "a": {"z": 9}, "c" : [ ]}')
    assert found == [
        (None, "a", {"x": [1, {"y": 2}]}, b'{"x": [1, {"y": 2}]}'),
        (None, "b", 3, b"3"),
        (None, "c", [], b"[ ]"),
    ]
    assert document.value == {"a": 1, "b": 2, "c": 3}
    assert document.entries == {}
    assert [fault.key for fault in document.faults] == ["a"]


def test_members_of_members_are_handed_over_with_both_keys_and_not_of_a_duplicate():
    document, found = taken(b'{"m": {"a": "x", "b": [1]}, "n": 1, "m": {"c": 2}, "l": [{"d": 3}]}', depth=2)
    assert found == [("m", "a", "x", b'"x"'), ("m", "b", [1], b"[1]")]
    assert document.value == {"m": {"a": 1, "b": 2}, "n": 1, "l": [{"d": 3}]}


def test_a_member_has_no_more_values_than_it_may_however_they_are_nested():
    assert taken(b'{"a": [1, [2, 3]], "b": [1, 2, 3, 4]}', most_values=4)[0].complete
    document, found = taken(b'{"a": [1], "b": [1, [2, {"c": 3}]]}', most_values=4)
    assert [(fault.kind, fault.message) for fault in document.faults] == [("limit", "more than 4 values in one entry")]
    assert [key for _, key, _, _ in found] == ["a"]


def test_of_an_array_that_nobody_takes_the_first_items_are_kept():
    assert taken(b"[1,2,3,4,5,6,7]")[0].value == [1, 2, 3, 4, 5]
    assert taken(b'{"m": [1,2,3,4,5,6,7]}', depth=2)[0].value == {"m": [1, 2, 3, 4, 5]}


@given(st.dictionaries(texts, st.dictionaries(texts, values, max_size=3), max_size=3), styles)
def test_what_is_handed_over_is_what_would_have_been_kept(value, style):
    data = json.dumps(value, **style).encode()
    for depth in (1, 2):
        found = {}

        def make(outer, key, inner, begin, end, found=found, data=data):
            assert json.loads(data[begin:end]) == inner
            found.setdefault(outer, {})[key] = inner
            return inner

        document = parse(data, max_depth=DEPTH, max_values=VALUES, keep=Keep(depth=depth, most_values=99, make=make))
        assert document.value == value
        assert found == (
            {None: value} if depth == 1 and value else {k: v for k, v in value.items() if v and depth == 2}
        )


@given(st.text("é😀a\xff", max_size=4), st.integers(0, 4))
def test_what_is_not_utf8_is_found_wherever_it_is_decoded_apart(text, shift):
    step = 1 << 20
    head = b'"' + b"a" * (step - 1 - shift)
    data = head + text.encode() + b"\xff"
    fault = only_fault(data)
    assert (fault.kind, fault.offset) == ("encoding", len(data) - 1)
    assert only_fault(head + "😀".encode()[:3]).offset == len(head)
