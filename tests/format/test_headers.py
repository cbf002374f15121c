"""A header is read as the safetensors format states it, and every way to leave the format is a fault with numbers."""

import json
import tracemalloc
from collections import Counter
from math import prod

import msgspec
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as save_torch

from auditor.format import headers
from auditor.format.disguise import disguise
from auditor.format.dtypes import DTYPES, packed_bytes
from auditor.format.entries import Fault, Shard, TensorHeader, Tiling
from auditor.format.headers import Header, parse_header
from auditor_schemas.policy import Limits

LIMITS = Limits()


def read(raw: bytes | str, data_bytes: int = 0, **limits: int) -> Header:
    raw = raw.encode() if isinstance(raw, str) else raw
    return parse_header(raw, data_bytes, Limits(**limits))


def strictly(raw: bytes | str, data_bytes: int = 0, **limits: int) -> Header:
    """By the reader that explains, which sees a sound header only where the fast path cannot prove it."""
    raw = raw.encode() if isinstance(raw, str) else raw
    return headers._explain(raw, data_bytes, Limits(**limits))


either = pytest.mark.parametrize("read", [read, strictly])


def only_fault(raw: bytes | str, data_bytes: int = 0, read=read, **limits: int) -> Fault:
    header = read(raw, data_bytes, **limits)
    assert len(header.faults) == 1, header.faults
    return header.faults[0]


def entry(dtype="U8", shape=(1,), begin=0, end=1) -> str:
    return (
        f'{{"dtype":"{dtype}","shape":{json.dumps(list(shape), separators=(",", ":"))},"data_offsets":[{begin},{end}]}}'
    )


# --- what the format allows


def test_a_header_holds_each_tensor_with_dtype_shape_and_offsets():
    raw = f'{{"a":{entry("BF16", (2, 3), 0, 12)},"b":{entry("F32", (), 12, 16)}}}'
    header = read(raw, 16)
    assert header.faults == ()
    assert header.complete
    assert header.metadata is None
    assert header.tensors == {
        "a": TensorHeader("BF16", (2, 3), (0, 12)),
        "b": TensorHeader("F32", (), (12, 16)),
    }


KINDS = st.sampled_from([("BF16", (2, 3)), ("F8_E4M3", (4, 4)), ("F32", ()), ("F32", (0, 7)), ("U8", (3,))])


@given(st.dictionaries(st.text("ab.é", min_size=1, max_size=6), KINDS))
def test_a_header_held_by_kind_gives_its_entries_again_in_order(kinds):
    tensors, end = {}, 0
    for name, (dtype, shape) in kinds.items():
        begin, end = end, end + packed_bytes(dtype, prod(shape))
        tensors[name] = {"dtype": dtype, "shape": shape, "data_offsets": (begin, end)}
    header = read(json.dumps(tensors, separators=(",", ":"), ensure_ascii=False), end)
    assert header.tiling is not None
    assert len(header.tiling) == len(kinds)
    again = header.tiling.tensors()
    assert again == header.tensors
    assert list(again) == list(header.tensors) == list(kinds)


@given(st.dictionaries(st.text("ab.é", min_size=1, max_size=6), KINDS), st.integers(-2, 2))
def test_what_can_be_read_of_a_shard_is_the_same_held_by_kind_or_not(kinds, more):
    tensors, end = {}, 0
    for name, (dtype, shape) in kinds.items():
        begin, end = end, end + packed_bytes(dtype, prod(shape))
        tensors[name] = {"dtype": dtype, "shape": shape, "data_offsets": (begin, end)}
    header = read(json.dumps(tensors, separators=(",", ":"), ensure_ascii=False), end)
    by_kind = Shard("a.safetensors", 8 + 100 + end + more, "read", 100, tensors=header.tensors, tiling=header.tiling)
    one_by_one = msgspec.structs.replace(by_kind, tiling=None)
    assert list(by_kind.extents.items()) == list(one_by_one.extents.items())
    assert all(by_kind.span(name) == span for name, (_, span) in by_kind.extents.items())
    left = {name for name, each in header.tensors.items() if each.data_offsets[1] > end + more or not prod(each.shape)}
    assert set(header.tensors) - set(by_kind.extents) == left


@either
def test_a_header_out_of_order_is_held_by_kind_in_the_order_of_its_offsets(read):
    raw = f'{{"a":{entry("F32", (), 12, 16)},"b":{entry("BF16", (2, 3), 0, 12)}}}'
    header = read(raw, 16)
    assert header.complete
    assert header.faults == ()
    assert list(header.tiling.tensors().items()) == list(header.tensors.items())[::-1]


def test_the_smallest_header_is_an_empty_object():
    assert read("{}") == Header({}, None, (), True, tiling=Tiling([], [], b""))


def test_metadata_is_kept_and_is_no_tensor():
    header = read('{"__metadata__":{"format":"pt","note":"a}b"}}')
    assert header == Header(
        {}, {"format": "pt", "note": "a}b"}, (), True, tiling=Tiling([], [], b""), values=header.values
    )


def test_metadata_may_stand_behind_the_tensors():
    header = read(f'{{"a":{entry()},"__metadata__":{{"format":"pt"}}}}', 1)
    assert header.metadata == {"format": "pt"}
    assert list(header.tensors) == ["a"]
    assert header.faults == ()


def test_spaces_behind_the_object_are_padding():
    assert read("{}      ").faults == ()
    assert read('{"__metadata__":{}}   ').metadata == {}


def test_a_header_may_end_at_any_offset_because_the_releases_are_not_padded():
    raw = f'{{"a":{entry()}}}'
    assert read(raw, 1).faults == read(raw + " ", 1).faults == ()


def test_a_tensor_with_a_zero_dimension_takes_no_bytes():
    assert read(f'{{"a":{entry("F32", (0, 5), 0, 0)},"b":{entry()}}}', 1).faults == ()


def test_a_scalar_takes_one_element():
    assert read(f'{{"a":{entry("F64", (), 0, 8)}}}', 8).faults == ()


def test_the_order_of_entries_need_not_be_the_order_of_offsets():
    header = read(f'{{"b":{entry(begin=1, end=2)},"a":{entry()}}}', 2)
    assert header.faults == ()
    assert list(header.tensors) == ["b", "a"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_has_its_size(dtype):
    size = packed_bytes(dtype, 12)
    assert read(f'{{"a":{entry(dtype, (3, 4), 0, size)}}}', size).faults == ()
    fault = only_fault(f'{{"a":{entry(dtype, (3, 4), 0, size + 1)}}}', size + 1)
    assert (fault.slug, fault.expected, fault.actual) == ("invalid-tensor-entry", size, size + 1)


@either
@pytest.mark.parametrize(("dtype", "shape", "size"), [("F4", [1, 2], 1), ("F6_E2M3", [4], 3), ("F6_E3M2", [2, 2], 3)])
def test_elements_of_less_than_a_byte_are_packed(dtype, shape, size, read):
    raw = f'{{"a":{entry(dtype, shape, 0, size)}}}'
    header = read(raw, size)
    assert header.faults == ()
    assert header.tensors == {"a": TensorHeader(dtype, tuple(shape), (0, size))}
    assert reference(raw.encode(), bytes(size)) is not None


@either
@pytest.mark.parametrize(("dtype", "shape", "size"), [("F4", [3], 2), ("F4", [], 1), ("F6_E2M3", [2], 2)])
def test_elements_that_end_inside_a_byte_are_no_tensor(dtype, shape, size, read):
    raw = f'{{"a":{entry(dtype, shape, 0, size)}}}'
    fault = only_fault(raw, size, read)
    assert (fault.slug, fault.tensors) == ("invalid-tensor-entry", ("a",))
    assert fault.message.endswith(f"elements of {dtype} end inside a byte")
    assert reference(raw.encode(), bytes(size)) is None


def test_names_may_hold_any_character():
    name = 'weight "quoted" \\ \u00e9\U0001f600\n'
    header = read(f'{{{json.dumps(name)}:{entry()},"\u00e9":{entry(begin=1, end=2)}}}', 2)
    assert list(header.tensors) == [name, "\u00e9"]
    assert header.faults == ()


# --- one test per invariant


@pytest.mark.parametrize(
    ("raw", "offset", "says"),
    [
        (b"[]", 8, "header is [], needs an object"),
        (b"null", 8, "header is null, needs an object"),
        (b'"{}"', 8, "needs an object"),
        (b"{", 9, "needed a key"),
        (b"{}}", 10, "1 bytes after the end of the document"),
        (b"{}\x00\x00", 10, "2 bytes after the end of the document"),
        (b'{"a":}', 13, "found '}'"),
        (b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,NaN]}}', 57, "found 'NaN]}}'"),
        (b'{"__metadata__":{},}', 27, "needed a key in double quotes"),
        (b'{"__metadata__":{}"a":' + entry().encode() + b"}", 26, "needed ',' or the end"),
        (b'{"\xff":1}', 10, "not UTF-8: byte 0xff"),
        (b'{"\\ud800":1}', 9, "half of a surrogate pair"),
        (b"\x00\x00\x00\x00", 8, "found '\\x00\\x00\\x00\\x00'"),
    ],
)
def test_a_header_that_is_no_json_object_is_malformed_at_its_offset_in_the_file(raw, offset, says):
    fault = only_fault(raw)
    assert (fault.slug, fault.begin) == ("malformed-header", offset)
    assert says in fault.message
    assert read(raw).tensors == {}
    assert not read(raw).complete


def test_a_header_begins_with_its_brace():
    fault = only_fault(b" {}")
    assert (fault.slug, fault.begin, fault.end) == ("malformed-header", 8, 9)
    assert "header starts with ' ', needs '{'" in fault.message


def test_a_byte_order_mark_is_malformed():
    assert only_fault(b"\xef\xbb\xbf{}").slug == "malformed-header"


def test_a_tensor_name_is_there_once():
    raw = f'{{"a":{entry()},"b":{entry(begin=1, end=2)},"a":{entry(begin=2, end=3)}}}'
    header = read(raw, 2)
    assert [(f.slug, f.begin, f.end, f.tensors) for f in header.faults] == [
        ("duplicate-header-key", 8 + raw.rindex('"a"'), 8 + raw.rindex('"a"') + 3, ("a",))
    ]
    assert header.tensors["a"].data_offsets == (0, 1)


def test_a_name_spelt_with_escapes_is_the_same_name():
    fault = only_fault(f'{{"a":{entry()},"\\u0061":{entry()}}}', 1)
    assert (fault.slug, fault.tensors) == ("duplicate-header-key", ("a",))


@pytest.mark.parametrize("field", ["dtype", "shape", "data_offsets"])
def test_a_field_of_an_entry_is_there_once(field):
    value = {"dtype": '"U8"', "shape": "[1]", "data_offsets": "[0,1]"}[field]
    fault = only_fault(f'{{"a":{entry()[:-1]},"{field}":{value}}}}}', 1)
    assert fault.slug == "duplicate-header-key"
    assert f"'{field}'" in fault.message


def test_metadata_is_there_once_and_so_are_its_keys():
    assert only_fault('{"__metadata__":{},"__metadata__":{}}').slug == "duplicate-header-key"
    assert only_fault('{"__metadata__":{"a":"1","a":"2"}}').slug == "duplicate-header-key"


@pytest.mark.parametrize("value", ["[]", '"pt"', "1", "true"])
def test_metadata_is_an_object(value):
    fault = only_fault(f'{{"__metadata__":{value}}}')
    assert (fault.slug, fault.begin, fault.end) == ("invalid-tensor-entry", 24, 24 + len(value))
    assert "needs an object of strings" in fault.message


@pytest.mark.parametrize("value", ["null", "1", "[]", "{}", "true", "1.5"])
def test_metadata_values_are_strings(value):
    header = read(f'{{"__metadata__":{{"kept":"x","n":{value}}}}}')
    assert header.metadata == {"kept": "x"}
    assert [fault.slug for fault in header.faults] == ["invalid-tensor-entry"]
    assert "'n'" in header.faults[0].message
    assert "needs a string" in header.faults[0].message


@pytest.mark.parametrize("value", ["null", "[]", '"U8"', "1", '["U8",[1],[0,1]]'])
def test_an_entry_is_an_object(value):
    raw = f'{{"a":{value}}}'
    fault = only_fault(raw)
    assert (fault.slug, fault.begin, fault.end, fault.tensors) == ("invalid-tensor-entry", 13, 13 + len(value), ("a",))
    assert "needs an object with dtype, shape and data_offsets" in fault.message
    assert not read(raw).complete


@pytest.mark.parametrize("field", ["dtype", "shape", "data_offsets"])
def test_an_entry_has_all_three_fields(field):
    fields = {key: value for key, value in json.loads(entry()).items() if key != field}
    fault = only_fault(json.dumps({"a": fields}), 1)
    assert (fault.slug, fault.tensors) == ("invalid-tensor-entry", ("a",))
    assert fault.message == f"{field} is missing"


def test_an_entry_has_no_other_field():
    fault = only_fault(f'{{"a":{entry()[:-1]},"strides":[1]}}}}', 1)
    assert fault.message == "unknown key 'strides'"


@pytest.mark.parametrize("value", ['"F2"', '"F7"', '"f32"', '"BF16 "', '""', "null", "32", "[]", '{"U8":null}'])
def test_a_dtype_is_one_of_the_formats(value):
    fault = only_fault(f'{{"a":{{"dtype":{value},"shape":[1],"data_offsets":[0,1]}}}}', 1)
    assert fault.slug == "invalid-tensor-entry"
    assert fault.message.startswith("dtype is ")
    assert "BF16" in fault.message


NOT_NATURAL = ["-1", "-0", "1.0", "1e0", "true", "null", '"1"', "[1]", str(1 << 64), "9" * 300]


@pytest.mark.parametrize("value", NOT_NATURAL)
def test_dimensions_are_natural_numbers(value):
    fault = only_fault(f'{{"a":{{"dtype":"U8","shape":[{value}],"data_offsets":[0,1]}}}}', 1)
    assert fault.slug == "invalid-tensor-entry"
    assert fault.message.startswith("shape is ")
    assert "needs an array of natural numbers" in fault.message


@pytest.mark.parametrize("value", NOT_NATURAL)
def test_offsets_are_natural_numbers(value):
    fault = only_fault(f'{{"a":{{"dtype":"U8","shape":[1],"data_offsets":[0,{value}]}}}}', 1)
    assert fault.slug == "invalid-tensor-entry"
    assert "needs two natural numbers" in fault.message


@pytest.mark.parametrize("value", ["null", "1", '"1"', "{}", "true"])
def test_shape_and_offsets_are_arrays(value):
    assert "shape is" in only_fault(f'{{"a":{{"dtype":"U8","shape":{value},"data_offsets":[0,1]}}}}', 1).message
    assert "data_offsets is" in only_fault(f'{{"a":{{"dtype":"U8","shape":[1],"data_offsets":{value}}}}}', 1).message


@pytest.mark.parametrize("value", ["[]", "[0]", "[0,1,1]"])
def test_offsets_are_two(value):
    fault = only_fault(f'{{"a":{{"dtype":"U8","shape":[1],"data_offsets":{value}}}}}', 1)
    assert "needs two natural numbers" in fault.message


@either
def test_more_dimensions_than_any_library_has_are_a_limit_and_no_damage(read):
    assert read(f'{{"a":{entry(shape=[1] * 64)}}}', 1).complete
    header = read(f'{{"a":{entry(shape=[1] * 65)},"b":{entry()}}}', 1)
    assert header.over_limit == "a tensor of 65 dimensions, no more than 64 are read"
    assert header.faults == ()
    assert not header.complete
    assert list(header.tensors) == ["b"]


@either
@pytest.mark.parametrize("shape", [[1 << 40, 1 << 40, 0], [1 << 62, 4, 0], [0, 1 << 64]])
def test_a_product_beyond_64_bits_is_refused_even_beside_a_zero(shape, read):
    fault = only_fault(f'{{"a":{entry(shape=shape, end=0)}}}', 0, read)
    assert (fault.slug, fault.tensors) == ("invalid-tensor-entry", ("a",))


def test_offsets_end_behind_their_begin():
    header = read(f'{{"a":{entry(begin=5, end=4)}}}', 0)
    assert [(f.slug, f.message) for f in header.faults] == [
        ("invalid-tensor-entry", "data_offsets end before they begin: [5, 4]")
    ]


def test_offsets_span_what_dtype_and_shape_need():
    raw = f'{{"a":{entry("BF16", (3, 5), 0, 29)}}}'
    fault = only_fault(raw, 29)
    begin = 8 + len(raw)
    assert fault == Fault(
        "invalid-tensor-entry",
        "data_offsets span 29 bytes, BF16 (3, 5) needs 30",
        begin,
        begin + 29,
        ("a",),
        expected=30,
        actual=29,
        kind="span",
    )


def test_tensors_do_not_overlap():
    raw = f'{{"a":{entry(shape=(4,), end=4)},"b":{entry(shape=(3,), begin=2, end=5)}}}'
    fault = only_fault(raw, 5)
    begin = 8 + len(raw)
    assert (fault.slug, fault.begin, fault.end, fault.tensors) == (
        "overlapping-tensors",
        begin + 2,
        begin + 4,
        ("b", "a"),
    )
    assert fault.message == "begins at data byte 2, inside 'a' that ends at 4"


def test_a_tensor_inside_another_overlaps_it_and_so_does_the_next():
    raw = f'{{"a":{entry(shape=(9,), end=9)},"b":{entry(begin=2, end=3)},"c":{entry(begin=8, end=9)}}}'
    assert [(f.slug, f.tensors, f.message) for f in read(raw, 9).faults] == [
        (
            "overlapping-tensors",
            ("b", "a", "c"),
            "begins at data byte 2, inside 'a' that ends at 9; and 1 more alike in this file",
        ),
    ]


def test_two_tensors_in_the_same_place_overlap():
    fault = only_fault(f'{{"a":{entry()},"b":{entry()}}}', 1)
    assert (fault.slug, fault.tensors) == ("overlapping-tensors", ("b", "a"))


def test_tensors_leave_no_hole():
    raw = f'{{"a":{entry()},"b":{entry(begin=4, end=5)}}}'
    fault = only_fault(raw, 5)
    begin = 8 + len(raw)
    assert (fault.slug, fault.begin, fault.end, fault.tensors) == ("uncovered-bytes", begin + 1, begin + 4, ("b",))
    assert fault.message == "3 bytes before 'b' belong to no tensor"


def test_the_first_tensor_begins_at_zero():
    fault = only_fault(f'{{"a":{entry(begin=8, end=9)}}}', 9)
    assert (fault.slug, fault.message) == ("uncovered-bytes", "8 bytes before 'a' belong to no tensor")


def test_a_truncated_file_is_short_by_a_number_and_names_what_it_lost():
    tensors = f'"a":{entry()},"b":{entry(shape=(10,), begin=1, end=11)},"c":{entry(begin=11, end=12)}'
    raw = "{" + tensors + "}"
    fault = only_fault(raw, 5)
    base = 8 + len(raw)
    assert fault == Fault(
        "truncated-shard",
        f"file is {base + 5:,} bytes, header needs {base + 12:,}: 7 bytes short",
        base + 5,
        base + 12,
        ("b", "c"),
        expected=base + 12,
        actual=base + 5,
    )


def test_a_file_that_is_too_long_has_trailing_bytes():
    raw = f'{{"a":{entry()}}}'
    base = 8 + len(raw)
    assert only_fault(raw, 9) == Fault(
        "trailing-bytes",
        f"file is {base + 9:,} bytes, header needs {base + 1:,}: 8 bytes after the last tensor",
        base + 1,
        base + 9,
        (),
        expected=base + 1,
        actual=base + 9,
    )


def test_data_behind_an_empty_header_is_trailing():
    assert only_fault("{}", 3).slug == "trailing-bytes"


def test_unreadable_entries_do_not_make_their_neighbours_look_uncovered():
    header = read(
        f'{{"a":{entry()},"b":{{"dtype":"F2","shape":[2],"data_offsets":[1,2]}},"c":{entry(begin=2, end=3)}}}', 9
    )
    assert [fault.slug for fault in header.faults] == ["invalid-tensor-entry"]
    assert list(header.tensors) == ["a", "c"]
    assert not header.complete


def test_several_faults_in_one_header_are_all_reported():
    raw = (
        f'{{"dup":{entry()},"hole":{entry(begin=3, end=4)},"over":{entry(shape=(3,), begin=3, end=6)},'
        f'"size":{entry("F32", (2,), 6, 10)},"dup":{entry()},"__metadata__":{{"n":1}}}}'
    )
    assert Counter(fault.slug for fault in read(raw, 4).faults) == {
        "duplicate-header-key": 1,
        "uncovered-bytes": 1,
        "overlapping-tensors": 1,
        "invalid-tensor-entry": 2,
        "truncated-shard": 1,
    }


def test_several_faults_in_one_entry_are_all_reported():
    header = read('{"a":{"dtype":"X","shape":[-1],"data_offsets":[0],"extra":1}}')
    assert [fault.message.split(" is ")[0] for fault in header.faults] == [
        "unknown key 'extra'",
        "dtype",
        "shape",
        "data_offsets",
    ]


# --- limits


@either
def test_more_tensors_than_the_limit_are_not_read(read):
    raw = f'{{"a":{entry()},"b":{entry(begin=1, end=2)}}}'
    assert read(raw, 2, tensors_per_shard=2).over_limit is None
    header = read(raw, 2, tensors_per_shard=1)
    assert header.over_limit == "more than 1 tensors in one shard (tensors_per_shard)"
    assert not header.complete
    assert header.faults == ()


def test_entries_that_are_no_tensors_count_towards_the_limit():
    assert read('{"a":0,"b":0,"__metadata__":{}}', tensors_per_shard=2).over_limit is None
    header = read('{"a":0,"b":0,"c":0}', tensors_per_shard=2)
    assert header.over_limit == "more than 2 tensors in one shard (tensors_per_shard)"
    assert [fault.tensors for fault in header.faults] == [("a", "b")]


@either
def test_a_name_longer_than_the_limit_in_bytes_is_not_read(read):
    raw = f'{{"\u00e9\u00e9":{entry()}}}'
    assert read(raw, 1, name_bytes=4).over_limit is None
    header = read(raw, 1, name_bytes=3)
    assert header.over_limit == "a tensor name of 4 bytes, limit 3 (name_bytes)"
    assert not header.complete
    assert header.faults == ()


@pytest.mark.parametrize("opening", [b'{"a":', b"", b'{"__metadata__":{"a":'])
def test_nesting_that_no_header_has_is_malformed_and_a_policys_own_bound_a_limit(opening):
    raw = opening + b"[" * 1_000_000
    fault = only_fault(raw)
    assert fault.slug == "malformed-header"
    assert fault.message.startswith("nested deeper than 64 levels at byte ")
    assert fault.message.endswith(", a header has 3")
    assert not read(raw).complete
    own = read(raw, json_depth=2)
    assert own.faults == ()
    assert own.over_limit.startswith("header: nested deeper than 2 levels")


def test_a_sound_header_needs_three_levels():
    raw = f'{{ "a":{entry()}}}'
    assert read(raw, 1, json_depth=3).complete
    assert read(raw, 1, json_depth=2).over_limit.startswith("header: nested deeper than 2 levels (json_depth)")


def test_values_are_limited_without_a_verdict_on_the_file():
    assert "more than 3 values" in read('{"a":[1,2,3]}', json_values=3).over_limit


# --- both paths, one meaning

names = st.text(st.characters(exclude_categories=("Cs",)), max_size=8).filter(lambda name: name != "__metadata__")
kinds = st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=4)).map(
    lambda kind: (kind[0], [*kind[1], 4] if kind[0] in ("F4", "F6_E2M3", "F6_E3M2") else kind[1])
)


@st.composite
def tensor_sets(draw):
    """Well-formed entries in any order, the metadata or None, and the size of the data."""
    layout = draw(st.dictionaries(names, kinds, max_size=6))
    entries, position = {}, 0
    for name, (dtype, shape) in layout.items():
        end = position + packed_bytes(dtype, prod(shape))
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    entries = {name: entries[name] for name in draw(st.permutations(list(entries)))}
    metadata = draw(st.none() | st.dictionaries(names, names, max_size=3))
    return entries, metadata, position


def written(entries, metadata, **style) -> bytes:
    whole = entries if metadata is None else {"__metadata__": metadata, **entries}
    return json.dumps(whole, **{"separators": (",", ":"), "ensure_ascii": False, **style}).encode()


@given(tensor_sets(), st.data())
def test_faults_of_size_and_offsets_are_the_same_by_either_reader(drawn, data):
    entries, metadata, size = drawn
    for name in data.draw(st.sets(st.sampled_from(sorted(entries)), max_size=3)) if entries else ():
        entries[name]["data_offsets"] = [data.draw(st.integers(0, 40)), data.draw(st.integers(0, 40))]
    size = max(0, size + data.draw(st.integers(-3, 3)))
    raw = written(entries, metadata)
    fast, strict = (msgspec.structs.replace(each(raw, size), entries=0, values=0) for each in (read, strictly))
    assert fast == strict


# --- many faults of one kind, and what a hostile header costs


@either
def test_tensors_at_one_place_are_one_fault_of_their_shard_with_all_of_them(read):
    raw = "{" + ",".join(f'"{n}":{entry()}' for n in range(1_000)) + "}"
    fault = only_fault(raw, 1, read)
    assert fault.slug == "overlapping-tensors"
    assert fault.message == "begins at data byte 0, inside '0' that ends at 1; and 998 more alike in this file"
    assert set(fault.tensors) == {str(n) for n in range(1_000)}


def test_holes_and_wrong_spans_are_one_fault_each_kind():
    raw = "{" + ",".join(f'"{n}":{entry(begin=2 * n, end=2 * n + 1)}' for n in range(50)) + "}"
    assert only_fault(raw, 99).message == "1 bytes before '1' belong to no tensor; and 48 more alike in this file"
    raw = "{" + ",".join(f'"{n}":{entry("U8", (2,), n, n + 1)}' for n in range(50)) + "}"
    fault = only_fault(raw, 50)
    assert (fault.slug, fault.kind, len(fault.tensors)) == ("invalid-tensor-entry", "span", 50)


def test_entries_wrong_alike_are_one_fault_and_each_kind_of_fault_its_own():
    wrong = '{"dtype":"X","shape":[1],"data_offsets":[0,1]}'
    entries = [f'"{n}":{wrong}' for n in range(20)] + [f'"{n}":{{}}' for n in range(20, 30)] + ['"z":null']
    header = read("{" + ",".join(entries) + "}")
    assert [(fault.kind, len(fault.tensors)) for fault in header.faults] == [
        ("dtype", 20),
        ("missing", 10),
        ("entry", 1),
    ]
    assert header.entries == 31


def test_keys_that_are_there_twice_are_one_fault_that_counts_them():
    entries = [f'"{n % 50}":{entry(begin=n % 50, end=n % 50 + 1)}' for n in range(120)]
    fault = only_fault("{" + ",".join(entries) + "}", 50)
    assert fault.message == "key '0' is there more than once; and 69 more alike in this file"
    assert len(fault.tensors) == 50


def test_a_key_twice_inside_an_entry_is_no_tensor_of_that_name():
    raw = f'{{"dtype":{entry()},"a":{{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[1,2]}}}}'
    assert only_fault(raw, 2).tensors == ()


@pytest.mark.parametrize("unit", ['"%07d":{}', '"%07d":""'])
@pytest.mark.parametrize("opening", ['{"a":{', '{"a":{"shape":{', '{"__metadata__":{'])
def test_what_no_tensor_needs_is_not_held(unit, opening):
    """A value of three bytes costs two hundred in memory, so of a member no more is read than one may have."""
    raw = (opening + ",".join(unit % n for n in range(110_000)) + "}" * opening.count("{")).encode()
    tracemalloc.start()
    header = read(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "more than 100,000 values in one entry" in header.over_limit
    assert peak < 40_000_000


def test_entries_of_a_header_are_taken_one_by_one():
    """Many entries, each with as much inside as an entry may have: one is held at a time."""
    inside = ",".join(f'"{n}":[]' for n in range(5_000))
    raw = ("{" + ",".join(f'"{n}":{{{inside}}}' for n in range(10)) + "}").encode()
    tracemalloc.start()
    header = read(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [fault.kind for fault in header.faults] == ["missing", "key"]
    assert peak < 4_000_000


def test_a_header_that_the_fast_path_would_pay_for_is_left_to_the_strict_reader():
    raw = ('{"a":{"dtype":"U8","shape":[' + ",".join(["300"] * 400_000) + '],"data_offsets":[0,0]}}').encode()
    tracemalloc.start()
    header = read(raw, json_values=200_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "100,000 values in one entry" in header.over_limit
    assert peak < 10_000_000


def test_metadata_of_null_is_none_and_of_another_kind_one_fault():
    assert read('{"__metadata__":null}') == Header({}, {}, (), True, tiling=Tiling([], [], b""), values=2)
    many = ",".join(f'"{n}":{n}' for n in range(100))
    fault = only_fault(f'{{"__metadata__":{{{many}}}}}')
    assert (fault.kind, fault.message) == (
        "metadata",
        "__metadata__ '0' is 0, needs a string; and 99 more alike in this file",
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "__metadata__", "dtype"]),
            st.sampled_from(
                [entry(), entry(begin=1, end=2), '{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}', "{}",
                 '{"format":"pt"}', '{"format":"pt","format":"pt"}', '{"a":"b","c":"a"}', "null"]
            ),
        ),
        max_size=5,
    ),
    st.sampled_from([",", ", "]),
)  # fmt: skip
def test_no_key_of_a_header_is_there_twice_unnoticed(pairs, comma):
    raw = "{" + comma.join(f'"{key}":{value}' for key, value in pairs) + "}"
    header = read(raw, 2)

    def strictly(them):
        if len(dict(them)) < len(them):
            raise ValueError
        return dict(them)

    try:
        value = json.loads(raw, object_pairs_hook=strictly)
    except ValueError:
        assert any(fault.slug == "duplicate-header-key" for fault in header.faults), raw
        return
    if not header.faults:
        assert set(header.tensors) == set(value) - {"__metadata__"}


# --- safetensors as the reference


def reference(raw: bytes, payload: bytes):
    """What safetensors makes of the same bytes: name → (dtype, shape, its bytes), or None where it refuses."""
    try:
        found = safetensors.deserialize(len(raw).to_bytes(8, "little") + raw + payload)
    except safetensors.SafetensorError:
        return None
    return {name: (info["dtype"], tuple(info["shape"]), bytes(info["data"])) for name, info in found}


# Where the auditor is stricter on purpose, by slug or by the words of the message.
STRICTER = (
    "unknown key",
    "header starts with",
    "entry is [",
    "dtype is an object",
)


def agrees_with_safetensors(raw: bytes, payload: bytes) -> None:
    theirs = reference(raw, payload)
    header = read(raw, len(payload))
    if theirs is None:
        assert header.faults or header.over_limit, raw
    elif header.over_limit:
        assert header.over_limit.startswith("a tensor of ")
    elif header.faults:
        assert all(
            fault.slug == "duplicate-header-key" or any(words in fault.message for words in STRICTER)
            for fault in header.faults
        ), (raw, header.faults)
    else:
        assert header.complete
        ours = {n: (h.dtype, h.shape, payload[slice(*h.data_offsets)]) for n, h in header.tensors.items()}
        assert ours == theirs, raw


def payload_of(size: int) -> bytes:
    return bytes(1 + i % 251 for i in range(size))


@given(tensor_sets())
def test_what_the_auditor_calls_sound_safetensors_reads_alike(drawn):
    entries, metadata, size = drawn
    agrees_with_safetensors(written(entries, metadata), payload_of(size))


TWO = (
    b'{"__metadata__":{"format":"pt"},"a.0":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},'
    b'"a.1":{"dtype":"U8","shape":[3],"data_offsets":[12,15]}}  '
)


@pytest.mark.parametrize("part", range(8))
def test_no_single_byte_of_a_header_can_change_unnoticed(part):
    payload = payload_of(15)
    agrees_with_safetensors(TWO, payload)
    for at in range(part, len(TWO), 8):
        for byte in range(256):
            agrees_with_safetensors(TWO[:at] + bytes([byte]) + TWO[at + 1 :], payload)


def test_no_byte_of_a_header_can_be_lost_or_doubled_unnoticed():
    payload = payload_of(15)
    for at in range(len(TWO)):
        agrees_with_safetensors(TWO[:at] + TWO[at + 1 :], payload)
        agrees_with_safetensors(TWO[:at] + TWO[at : at + 1] + TWO[at:], payload)


@given(tensor_sets(), st.data())
def test_a_changed_byte_of_any_header_is_judged_as_safetensors_does_or_more_strictly(drawn, data):
    entries, metadata, size = drawn
    raw = bytearray(written(entries, metadata))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    agrees_with_safetensors(bytes(raw), payload_of(size))


@given(tensor_sets(), st.data())
def test_changed_numbers_are_judged_as_safetensors_does_or_more_strictly(drawn, data):
    entries, metadata, size = drawn
    if entries:
        fields = entries[data.draw(st.sampled_from(sorted(entries)))]
        numbers = fields[data.draw(st.sampled_from(["shape", "data_offsets"]))]
        if numbers:
            numbers[data.draw(st.integers(0, len(numbers) - 1))] = data.draw(
                st.integers(-1, 40) | st.integers(0, 1 << 65) | st.sampled_from([1 << 63, 1 << 62, 1.0, True, None])
            )
    size = max(0, size + data.draw(st.sampled_from([0, 0, 0, -1, 1])))
    agrees_with_safetensors(written(entries, metadata), payload_of(size))


NUMPY = {"float32": "F32", "float16": "F16", "int64": "I64", "uint8": "U8", "bool": "BOOL", "float64": "F64"}


@settings(max_examples=40)
@given(
    st.dictionaries(
        names, st.tuples(st.sampled_from(sorted(NUMPY)), st.lists(st.integers(0, 3), max_size=3)), max_size=5
    ),
    st.none() | st.dictionaries(names, names, min_size=1, max_size=2),
)
def test_what_safetensors_writes_is_sound(layout, metadata):
    file = safetensors.numpy.save({n: np.ones(shape, dtype) for n, (dtype, shape) in layout.items()}, metadata)
    length = int.from_bytes(file[:8], "little")
    header = read(file[8 : 8 + length], len(file) - 8 - length)
    assert header.faults == ()
    assert header.complete
    assert header.metadata == metadata
    assert {n: (h.dtype, h.shape) for n, h in header.tensors.items()} == {
        n: (NUMPY[dtype], tuple(shape)) for n, (dtype, shape) in layout.items()
    }
    agrees_with_safetensors(file[8 : 8 + length], file[8 + length :])


def test_the_one_malformed_header_that_safetensors_writes_is_called_so():
    # safetensors 0.8.0 closes the object twice when both the tensors and the metadata are empty, and cannot read it.
    raw = b'{},"__metadata__":{}}   '
    assert reference(raw, b"") is None
    assert only_fault(raw).message.startswith("22 bytes after the end of the document")


def test_every_torch_dtype_is_known():
    tensors = {
        str(dtype): torch.zeros(3, dtype=dtype)
        for dtype in (
            torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
            torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int8, torch.uint8, torch.int16,
            torch.uint16, torch.int32, torch.uint32, torch.int64, torch.uint64, torch.bool, torch.complex64,
        )
    }  # fmt: skip
    known = set(DTYPES) - {"F4", "F6_E2M3", "F6_E3M2"}  # which torch has packed, or not at all
    file = save_torch(tensors)
    length = int.from_bytes(file[:8], "little")
    header = read(file[8 : 8 + length], len(file) - 8 - length)
    assert header.faults == ()
    assert sorted(h.dtype for h in header.tensors.values()) == sorted(known)
    with_offsets = {n: h.data_offsets[1] - h.data_offsets[0] for n, h in header.tensors.items()}
    assert with_offsets == {n: 3 * t.element_size() for n, t in tensors.items()}


def test_safe_open_sees_the_same_tensors(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(TWO).to_bytes(8, "little") + TWO + payload_of(15))
    header = read(TWO, 15)
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == header.metadata
        assert set(file.keys()) == set(header.tensors)
        for name, tensor in header.tensors.items():
            cut = file.get_slice(name)
            assert (cut.get_dtype(), tuple(cut.get_shape())) == (tensor.dtype, tensor.shape)


# --- what stands in a shard's place


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a git-lfs pointer"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"\n  <!doctype HTML>", "an HTML page"),
        (b"<html lang=en>", "an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied', "an XML document"),
        (b"Entry not found", "a 'not found' answer of a hub"),
        (b"Invalid username or password.", "a refusal of a hub"),
        (b'{"error":"Repository not found"}', "a JSON error message"),
        (b'{"__metadata__":{}}', "a safetensors header without its 8-byte length"),
        (b"PK\x03\x04" + b"\x00" * 20, "a zip archive (a PyTorch pickle checkpoint looks so)"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P", "a Python pickle"),
        (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
        (b"\x1f\x8b\x08\x00\x00\x00", "a gzip archive"),
        (b"\x28\xb5\x2f\xfd\x04\x58", "a zstd archive"),
        (b"\x93NUMPY\x01\x00v\x00{'descr'", "a NumPy array"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\xef\xbb\xbf<html>", "an HTML page"),
        (b"\x00" * 64, "64 zero bytes at its start (a preallocated download looks so)"),
    ],
)
def test_a_file_that_is_something_else_is_called_by_its_name(head, kind):
    assert disguise(head, 10_000) == kind


def test_an_empty_file_is_called_empty():
    assert disguise(b"", 0) == "an empty file"


def test_a_shard_is_not_taken_for_something_else():
    assert disguise(len(TWO).to_bytes(8, "little") + TWO, 8 + len(TWO) + 15) is None
    assert disguise(b"\x02\x00\x00\x00\x00\x00\x00\x00{}", 10) is None
    assert disguise(b"\x00" * 15, 15) is None


@pytest.mark.parametrize(
    "length",
    [0x0280, 0x8B1F, 0x018B1F, 0x04034B50, 0x20 | 0x8B1F << 8],
    ids=["pickle", "gzip", "gzip 2", "zip", "space"],
)
def test_a_header_length_that_spells_a_magic_number_is_still_a_length(length):
    head = length.to_bytes(8, "little") + b'{"model.layers.0.self_attn.q_a_proj.weight":'
    assert disguise(head, 8 + length) is None
    assert disguise(head, 5_000_000_000) is None
