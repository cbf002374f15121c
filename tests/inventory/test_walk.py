"""The walk reads every header, opens nothing it should not, and says what it did not read and why."""

import hashlib
import json
import os
import resource
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from auditor.forge import forge
from auditor.format.entries import Fault, Index, Shard
from auditor.format.index import parse_index
from auditor.gather import Subject
from auditor.inventory.facts import Inventory
from auditor.inventory.walk import read_config, walk
from auditor.run import Terms, conduct
from auditor.sources.entry import Entry
from auditor.sources.folder import Folder
from auditor_schemas.index import CheckpointIndex
from auditor_schemas.policy import Limits
from auditor_schemas.rule import File

LIMITS = Limits()
INDEX = "model.safetensors.index.json"
ONE, TWO = "model-00001-of-000002.safetensors", "model-00002-of-000002.safetensors"


def shard_bytes(*names: str, metadata=None) -> bytes:
    """A shard of one-byte tensors."""
    entries = {n: {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i, n in enumerate(names)}
    header = json.dumps({} if metadata is None else {"__metadata__": metadata}) if not names else None
    raw = header or json.dumps(
        ({} if metadata is None else {"__metadata__": metadata}) | entries, separators=(",", ":")
    )
    return len(raw).to_bytes(8, "little") + raw.encode() + b"x" * len(names)


def write_index(folder: Path, weight_map: dict, **metadata) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": metadata, "weight_map": weight_map}))


def seen(folder: Path, *, symlinks="follow", **limits: int) -> Inventory:
    return walk(Folder(str(folder), symlinks=symlinks), Limits(**limits))


def shard(inventory: Inventory, path: str) -> Shard:
    return next(each for each in inventory.shards if each.path == path)


@pytest.fixture
def pair(tmp_path) -> Path:
    """Two shards with their index."""
    (tmp_path / ONE).write_bytes(shard_bytes("a", "b", metadata={"format": "pt"}))
    (tmp_path / TWO).write_bytes(shard_bytes("c", metadata={"format": "pt"}))
    write_index(tmp_path, {"a": ONE, "b": ONE, "c": TWO}, total_size=3)
    return tmp_path


# --- what is read


def test_a_sound_checkpoint_is_read_whole(pair):
    inventory = seen(pair)
    assert inventory.complete
    assert inventory.unread == ()
    assert [(each.path, each.state, list(each.tensors)) for each in inventory.shards] == [
        (ONE, "read", ["a", "b"]),
        (TWO, "read", ["c"]),
    ]
    assert inventory.index is not None
    assert inventory.index.weight_map == {"a": ONE, "b": ONE, "c": TWO}
    assert inventory.index.total_size == 3
    assert inventory.payload_bytes == 3
    assert list(inventory.tensors) == ["a", "b", "c"]


def test_a_shard_carries_its_sizes_digest_metadata_and_ranges(pair):
    file = (pair / ONE).read_bytes()
    length = int.from_bytes(file[:8], "little")
    found = shard(seen(pair), ONE)
    assert found.size == len(file)
    assert found.header_bytes == length
    assert found.header_sha256 == hashlib.sha256(file[8 : 8 + length]).hexdigest()
    assert found.metadata == {"format": "pt"}
    assert found.data_begin == 8 + length
    assert file[slice(*found.span("b"))] == b"x"


def test_a_single_file_needs_no_index(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(shard_bytes("a"))
    inventory = seen(tmp_path)
    assert inventory.index is None
    assert list(inventory.tensors) == ["a"]
    assert inventory.complete


def test_a_header_longer_than_the_first_read_is_read_whole(tmp_path):
    names = [f"model.layers.{n}.mlp.gate.weight" for n in range(5_000)]
    (tmp_path / "model.safetensors").write_bytes(shard_bytes(*names))
    inventory = seen(tmp_path)
    assert list(inventory.tensors) == names
    assert inventory.complete


def test_an_empty_folder_is_an_empty_inventory(tmp_path):
    assert seen(tmp_path) == Inventory(())


def test_shards_without_an_index_are_all_read_in_order(tmp_path):
    for name in ("b.safetensors", "a.safetensors", "model-00001-of-00002.safetensors"):
        (tmp_path / name).write_bytes(shard_bytes(name))
    inventory = seen(tmp_path)
    assert [each.path for each in inventory.parts] == [
        "a.safetensors", "b.safetensors", "model-00001-of-00002.safetensors",
    ]  # fmt: skip


def test_a_shard_in_a_subfolder_is_read_where_the_index_names_it(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.safetensors").write_bytes(shard_bytes("a"))
    (tmp_path / "sub" / "b.safetensors").write_bytes(shard_bytes("b"))
    write_index(tmp_path, {"a": "sub/a.safetensors"})
    assert list(seen(tmp_path).tensors) == ["a"]


def test_of_a_tensor_in_two_shards_the_last_counts_and_both_are_stored(pair):
    (pair / TWO).write_bytes(shard_bytes("b", "c"))
    inventory = seen(pair)
    assert inventory.stored == 4
    assert len(inventory.tensors) == 3
    assert inventory.shard_of("b").path == TWO


def test_the_inventory_can_be_written_and_read_back_equal(pair):
    (pair / "model-00003-of-000002.safetensors").write_bytes(b"<html>")
    (pair / "extra.safetensors").write_bytes(shard_bytes("a", "a") + b"tail")
    (pair / "gone").symlink_to("nowhere")
    inventory = seen(pair, shards=3)
    assert inventory.unread
    assert any(each.faults for each in inventory.shards)
    assert msgspec.json.decode(msgspec.json.encode(inventory, enc_hook=dict), type=Inventory) == inventory


def test_progress_counts_the_shards_to_the_end(pair):
    steps = []
    walk(Folder(str(pair), symlinks="follow"), LIMITS, lambda done, of: steps.append((done, of)))
    assert steps == [(0, 2), (1, 2), (2, 2)]


def test_an_interruption_leaves_the_rest_unread_and_says_so(pair):
    def interrupt(done, of):
        if done == 1:
            raise KeyboardInterrupt

    inventory = walk(Folder(str(pair), symlinks="follow"), LIMITS, interrupt)
    assert inventory.unread == ("cancelled after 1 of 2 shards",)
    assert list(inventory.tensors) == ["a", "b"]
    assert not inventory.complete


# --- strays


def test_a_file_of_another_name_than_the_shards_is_a_stray(pair):
    (pair / "adapter.safetensors").write_bytes(shard_bytes("z"))
    (pair / "consolidated-00001-of-00001.safetensors").write_bytes(shard_bytes("y"))
    inventory = seen(pair)
    assert [each.path for each in inventory.shards if each.stray] == [
        "adapter.safetensors",
        "consolidated-00001-of-00001.safetensors",
    ]
    assert list(inventory.tensors) == ["a", "b", "c"]
    assert inventory.stored == 3


def test_a_file_numbered_like_the_shards_belongs_to_them(pair):
    (pair / "model-00003-of-000002.safetensors").write_bytes(shard_bytes("z"))
    inventory = seen(pair)
    assert not any(each.stray for each in inventory.shards)
    assert "z" in inventory.tensors


def test_a_file_of_another_count_belongs_to_another_series(pair):
    (pair / "model-00003-of-000003.safetensors").write_bytes(shard_bytes("z"))
    assert [each.path for each in seen(pair).shards if each.stray] == ["model-00003-of-000003.safetensors"]


def test_without_a_readable_weight_map_nothing_is_a_stray(pair):
    (pair / "adapter.safetensors").write_bytes(shard_bytes("z"))
    (pair / INDEX).write_text("{}")
    assert not any(each.stray for each in seen(pair).shards)


def test_a_damaged_stray_leaves_the_checkpoint_complete(pair):
    (pair / "adapter.safetensors").write_bytes(b"\x00" * 4)
    inventory = seen(pair)
    assert inventory.complete
    assert shard(inventory, "adapter.safetensors").state == "damaged"


# --- damage in a file


@pytest.mark.parametrize(
    ("data", "slug", "says", "span"),
    [
        (b"", "not-a-shard", "is an empty file, 0 bytes", (0, 0)),
        (b"1234567", "invalid-header-length", "file is 7 bytes, the header's length alone needs 8", (0, 7)),
        (b"\x00" * 8, "invalid-header-length", "header length is 0, the smallest header '{}' has 2", (0, 8)),
        (b"\x01" + b"\x00" * 7 + b"{", "invalid-header-length", "header length is 1", (0, 8)),
        (
            b"\x03" + b"\x00" * 7 + b"{}",
            "invalid-header-length",
            "header length is 3, file has 2 bytes behind it",
            (0, 8),
        ),
        (b"\xff" * 8 + b"{}", "invalid-header-length", "header length is 18,446,744,073,709,551,615", (0, 8)),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4302350824\n",
            "not-a-shard",
            "is a git-lfs pointer, 73 bytes, not a safetensors file",
            (0, 73),
        ),
        (b"\x02" + b"\x00" * 7 + b"[]", "malformed-header", "header is [], needs an object", (8, 10)),
    ],
)
def test_a_damaged_file_is_a_fault_with_numbers(pair, data, slug, says, span):
    (pair / TWO).write_bytes(data)
    inventory = seen(pair)
    found = shard(inventory, TWO)
    assert found.state == "damaged"
    assert [fault.slug for fault in found.faults] == [slug]
    assert says in found.faults[0].message
    assert found.faults[0].span == span
    assert inventory.unread == ()
    assert not inventory.complete
    assert list(inventory.tensors) == ["a", "b"]
    assert inventory.lost_with(found) == ("c", File(TWO))


def test_a_length_of_2_to_the_63_allocates_nothing(pair):
    (pair / TWO).write_bytes((1 << 63).to_bytes(8, "little") + b"{}" * 50)
    tracemalloc.start()
    inventory = seen(pair)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    fault = shard(inventory, TWO).faults[0]
    assert fault.slug == "invalid-header-length"
    assert "header length is 9,223,372,036,854,775,808, file has 100 bytes behind it" in fault.message
    assert peak < 1_000_000


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_a_shard_cut_anywhere_is_damaged_and_never_an_exception(pair, cut):
    (pair / TWO).write_bytes((pair / TWO).read_bytes()[:cut])
    found = shard(seen(pair), TWO)
    assert found.faults
    assert found.state == "damaged"


def test_a_shard_that_lost_its_data_is_truncated_but_its_tensors_are_known(pair):
    whole = (pair / ONE).read_bytes()
    (pair / ONE).write_bytes(whole[:-1])
    found = shard(seen(pair), ONE)
    assert found.state == "read"
    assert [(f.slug, f.expected, f.actual, f.tensors) for f in found.faults] == [
        ("truncated-shard", len(whole), len(whole) - 1, ("b",))
    ]


def test_a_shard_of_a_header_length_like_a_magic_number_is_a_shard(tmp_path):
    for number, length in enumerate((0x0280, 0x8B1F)):
        raw = b"{}".ljust(length)
        (tmp_path / f"{number}.safetensors").write_bytes(length.to_bytes(8, "little") + raw)
    inventory = seen(tmp_path)
    assert [(each.state, each.faults) for each in inventory.shards] == [("read", ()), ("read", ())]


# --- what is not opened


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "device"])
def test_what_is_no_file_in_a_shards_place_is_listed_and_not_opened(pair, kind):
    (pair / TWO).unlink()
    if kind == "directory":
        (pair / TWO).mkdir()
    elif kind == "device":
        (pair / TWO).symlink_to("/dev/zero")
    else:
        os.mknod(pair / TWO, {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}[kind] | 0o600)
    inventory = seen(pair)
    assert inventory.entries[TWO].kind == kind
    assert [each.path for each in inventory.shards] == [ONE]


@pytest.mark.parametrize("name", ["config.json", INDEX])
def test_config_and_index_are_regular_files_too(pair, name):
    (pair / name).unlink(missing_ok=True)
    os.mkfifo(pair / name)
    if name == INDEX:
        index = seen(pair).index
        assert index is not None
        assert (index.state, index.faults[0].message) == ("damaged", "is a fifo, not a regular file")
    else:
        config = read_config(Folder(str(pair), symlinks="follow"), LIMITS)
        assert (config.state, config.reason) == ("damaged", "is a fifo, not a regular file")


UNSAFE = [
    "../outside.safetensors", "sub/../../outside.safetensors", "sub/../model.safetensors", "..", ".", "",
    "./model.safetensors", "sub//model.safetensors", "model.safetensors/", "/etc/passwd", "//etc/passwd",
    "..\\outside.safetensors", "C:\\x", "a\x00b", "a\nb", "a\u202eb", "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("path", UNSAFE, ids=lambda path: repr(path[:40]))
def test_a_path_that_leaves_the_checkpoint_by_its_spelling_is_never_looked_at(tmp_path, path):
    folder = tmp_path / "checkpoint"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside.safetensors").write_bytes(shard_bytes("secret"))
    (folder / "model.safetensors").write_bytes(shard_bytes("a"))
    write_index(folder, {"secret": path, "a": "model.safetensors"})
    inventory = seen(folder)
    assert path not in inventory.entries
    assert list(inventory.tensors) == ["a"]
    assert inventory.index.weight_map["secret"] == path


def test_an_absolute_path_is_never_looked_at(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (tmp_path / "outside.safetensors").write_bytes(shard_bytes("secret"))
    write_index(folder, {"secret": str(tmp_path / "outside.safetensors")})
    assert seen(folder).shards == ()


def test_a_missing_shard_is_absent_in_the_listing(pair):
    (pair / TWO).unlink()
    inventory = seen(pair)
    assert inventory.entries[TWO] == Entry("absent")
    assert [each.path for each in inventory.shards] == [ONE]


def test_a_broken_link_in_a_shards_place_is_listed_as_such(pair):
    (pair / TWO).unlink()
    (pair / TWO).symlink_to("../blobs/gone")
    assert seen(pair).entries[TWO].kind == "broken-link"


def test_an_index_that_is_a_broken_link_is_damaged(pair):
    (pair / INDEX).unlink()
    (pair / INDEX).symlink_to("gone")
    index = seen(pair).index
    assert (index.state, index.faults[0].message) == ("damaged", "leads nowhere: a broken symlink")


def test_a_symlink_out_of_the_checkpoint_is_read_and_marked(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (tmp_path / "elsewhere").write_bytes(shard_bytes("a"))
    (folder / "model.safetensors").symlink_to("../elsewhere")
    inventory = seen(folder)
    assert list(inventory.tensors) == ["a"]
    assert inventory.entries["model.safetensors"].link == "outside"


def test_a_symlink_out_of_the_checkpoint_is_damage_where_the_policy_forbids_it(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name, data in (("model.safetensors", shard_bytes("a")), (INDEX, b'{"weight_map":{}}'), ("config.json", b"{}")):
        (tmp_path / name).write_bytes(data)
        (folder / name).symlink_to(tmp_path / name)
    inventory = seen(folder, symlinks="inside")
    reason = "leads out of the checkpoint, which the policy forbids"
    assert shard(inventory, "model.safetensors") == Shard(
        "model.safetensors", len(shard_bytes("a")), "damaged", reason=reason
    )
    assert inventory.index == Index("damaged", faults=(Fault("malformed-index", reason),))
    assert inventory.unread == ()
    assert inventory.tensors == {}
    config = read_config(Folder(str(folder), symlinks="inside"), LIMITS)
    assert (config.state, config.data, config.reason) == ("damaged", b"", reason)


def test_a_hub_cache_is_read_under_either_policy(tmp_path):
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    (blobs / "1").write_bytes(shard_bytes("a"))
    (snapshot / "model.safetensors").symlink_to("../../blobs/1")
    for symlinks in ("follow", "inside"):
        assert seen(snapshot, symlinks=symlinks).complete
        assert list(seen(snapshot, symlinks=symlinks).tensors) == ["a"]


# --- limits: what lies beyond is unread, with the limit's name


def test_a_header_beyond_the_limit_is_unread(pair):
    length = int.from_bytes((pair / ONE).read_bytes()[:8], "little")
    assert shard(seen(pair, header_bytes=length), ONE).state == "read"
    inventory = seen(pair, header_bytes=length - 1)
    reason = f"header length is {length:,}, limit {length - 1:,} (header_bytes)"
    assert shard(inventory, ONE).state == "unread"
    assert inventory.unread == (f"{ONE}: {reason}",)
    assert shard(inventory, TWO).state == "read"


def test_a_header_beyond_what_safetensors_reads_is_not_even_loaded(pair):
    with (pair / TWO).open("wb") as file:
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(300_000_000)
    tracemalloc.start()
    inventory = seen(pair)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert inventory.unread == (f"{TWO}: header length is 100,000,001, limit 100,000,000 (header_bytes)",)
    assert peak < 1_000_000


def test_tensors_beyond_the_limit_make_their_shard_unread(pair):
    inventory = seen(pair, tensors_per_shard=1)
    assert inventory.unread == (f"{ONE}: more than 1 tensors in one shard (tensors_per_shard)",)
    assert shard(inventory, ONE).state == "unread"
    assert not inventory.complete


def test_a_name_beyond_the_limit_makes_its_shard_unread(pair):
    (pair / TWO).write_bytes(shard_bytes("c" * 513))
    inventory = seen(pair)
    assert inventory.unread == (f"{TWO}: a tensor name of 513 bytes, limit 512 (name_bytes)",)


def test_a_header_nested_without_end_is_damaged_and_beyond_a_policys_own_bound_unread(pair):
    raw = b'{"a":' + b"[" * 1_000_000
    (pair / TWO).write_bytes(len(raw).to_bytes(8, "little") + raw)
    inventory = seen(pair)
    assert shard(inventory, TWO).state == "damaged"
    assert [fault.slug for fault in shard(inventory, TWO).faults] == ["malformed-header"]
    assert inventory.unread == ()
    assert shard(seen(pair, json_depth=2), TWO).state == "unread"


def test_shards_beyond_the_limit_are_unread(pair):
    inventory = seen(pair, shards=1)
    assert inventory.unread == ("1 shards beyond the limit of 1 (shards)",)
    assert [each.path for each in inventory.shards] == [ONE]


def test_files_beyond_the_limit_are_unread(pair):
    assert seen(pair, files=3).unread == ()
    assert "the folder holds more than 2 entries (limit files)" in seen(pair, files=2).unread


def test_an_index_beyond_the_limit_is_unread(pair):
    size = (pair / INDEX).stat().st_size
    assert seen(pair, index_bytes=size).complete
    inventory = seen(pair, index_bytes=size - 1)
    reason = f"is {size:,} bytes, limit {size - 1:,} (index_bytes)"
    assert inventory.index == Index("unread", reason=reason, code="limit")
    assert inventory.unread == (f"{INDEX}: {reason}",)
    assert list(inventory.tensors) == ["a", "b", "c"]


def test_a_config_beyond_the_limit_is_unread(pair):
    (pair / "config.json").write_bytes(b"{}" + b" " * (1 << 20))
    config = read_config(Folder(str(pair), symlinks="follow"), LIMITS)
    assert (config.state, config.reason) == ("unread", "is 1,048,578 bytes, limit 1,048,576 (config_bytes)")
    assert config.data == b""


def test_config_is_read_with_its_digest_or_is_absent(pair):
    source = Folder(str(pair), symlinks="follow")
    assert read_config(source, LIMITS).state == "absent"
    (pair / "config.json").write_bytes(b"{}")
    config = read_config(source, LIMITS)
    assert (config.state, config.data, config.sha256) == ("read", b"{}", hashlib.sha256(b"{}").hexdigest())


# --- the index


def index_of(text: str | bytes, **limits: int) -> Index:
    return parse_index(text if isinstance(text, bytes) else text.encode(), Limits(**limits))


names = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
plain = st.none() | st.booleans() | st.integers(0, 1 << 70) | st.floats(allow_nan=False, allow_infinity=False) | names


@given(
    st.dictionaries(names, names, max_size=5),
    st.none() | st.integers(0, 1 << 60),
    st.dictionaries(names.filter(lambda key: key != "total_size"), plain | st.lists(plain, max_size=2), max_size=3),
    st.dictionaries(names.filter(lambda key: key not in ("weight_map", "metadata")), plain, max_size=2),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_a_good_index_is_read_as_pydantic_reads_it(weight_map, total, metadata, extra, ascii_only, indent):
    whole = {
        "metadata": metadata | ({"total_size": total} if total is not None else {}),
        "weight_map": weight_map,
    } | extra
    data = json.dumps(whole, ensure_ascii=ascii_only, indent=indent).encode()
    theirs = CheckpointIndex.model_validate_json(data)
    ours = index_of(data)
    assert (ours.state, ours.faults) == ("read", ())
    assert ours.weight_map == theirs.weight_map == weight_map
    assert ours.total_size == theirs.metadata.total_size == total
    assert ours.sha256 == hashlib.sha256(data).hexdigest()


tokens = st.sampled_from(
    ['{"weight_map":{"a":"x"}}', '{"weight_map":', '{"metadata":', "{", "}", '"a":', '"x"', ",", "[", "]", "null", "1",
     "-1", "1.5", '"total_size":', "true", '"weight_map":', '"metadata":', '{"a":"x"}', "{}", "\\", " ", '"\\ud800"']
)  # fmt: skip


@given(st.lists(tokens, max_size=10).map("".join))
@example('{"weight_map":{"a":"x"},"weight_map":{"a":"x"}}')
@example('{"metadata":null,"metadata":{"total_size":1},"weight_map":{}}')
@example('{"weight_map":{},"x":{"a":1,"a":2}}')
@example('{"metadata":{"a":{"b":1,"b":2}},"weight_map":{}}')
def test_what_pydantic_refuses_in_an_index_is_a_fault(text):
    ours = index_of(text)
    try:
        theirs = CheckpointIndex.model_validate_json(text)
    except ValidationError:
        assert ours.faults
        assert ours.state == "damaged"
        return
    if not ours.faults:
        assert ours.state == "read"
        assert ours.weight_map == theirs.weight_map
        assert ours.total_size == (theirs.metadata.total_size if theirs.metadata else None)


@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_a_damaged_index_and_never_an_exception(data):
    assert index_of(data).state == "damaged" or json.loads(data)["weight_map"] == {}


def test_metadata_may_be_absent_or_null():
    assert index_of('{"weight_map":{"a":"x"}}').weight_map == {"a": "x"}
    assert index_of('{"metadata":null,"weight_map":{}}').state == "read"
    assert index_of('{"metadata":{},"weight_map":{}}').total_size is None


@pytest.mark.parametrize(
    ("text", "tensors", "says"),
    [
        ('{"weight_map":{"a":"x","a":"x"}}', ("a",), "key 'a' is there more than once"),
        ('{"weight_map":{"a":"x","\\u0061":"y"}}', ("a",), "key 'a' is there more than once"),
        ('{"weight_map":{"a":"x"},"weight_map":{}}', (), "key 'weight_map' is there more than once"),
        ('{"metadata":{"total_size":1,"total_size":2},"weight_map":{}}', (), "key 'total_size' is there"),
        ('{"weight_map":{"a":1}}', ("a",), "weight_map entry 'a' is 1, needs a string"),
        ('{"weight_map":{"a":null}}', ("a",), "weight_map entry 'a' is null, needs a string"),
        ('{"weight_map":{"a":["x"]}}', ("a",), "weight_map entry 'a' is ['x'], needs a string"),
        ("{}", (), "weight_map is null, needs an object of strings"),
        ('{"weight_map":[]}', (), "weight_map is [], needs an object of strings"),
        ("[]", (), "index is [], needs an object with a weight_map"),
        ('{"metadata":[],"weight_map":{}}', (), "metadata is [], needs an object"),
        ('{"metadata":{"total_size":-1},"weight_map":{}}', (), "total_size is -1, needs a natural number"),
        ('{"metadata":{"total_size":1.5},"weight_map":{}}', (), "total_size is 1.5, needs a natural number"),
        ('{"metadata":{"total_size":1e30},"weight_map":{}}', (), "total_size is 1e+30, needs a natural number"),
        ('{"metadata":{"total_size":true},"weight_map":{}}', (), "total_size is true, needs a natural number"),
        ('{"weight_map":{"a":"x"}', (), "needed ',' or the end of the object or array at byte 23, the document ends"),
        ("", (), "is an empty file, 0 bytes, not the JSON document of that name"),
        ("<!DOCTYPE html>", (), "is an HTML page, 15 bytes, not the JSON document of that name"),
        ("version https://git-lfs.github.com/spec/v1\n", (), "is a git-lfs pointer, 43 bytes"),
        (b"\x1f\x8b\x08\x00", (), "is a gzip archive, 4 bytes"),
        (b"\xef\xbb\xbf{}", (), "begins with a byte order mark of UTF-8 (bytes ef bb bf), needs '{'"),
        (b"\xff\xfe{\x00}\x00", (), "begins with a byte order mark of UTF-16 (bytes ff fe), needs '{'"),
        ('{"error":"Repository not found"}', (), "is the answer of a server, an error, and has no weight_map"),
        ('{"weight_map":{"a":NaN}}', (), "found 'NaN}}'"),
        ('{"weight_map":{"a":"\\ud800"}}', (), "half of a surrogate pair"),
        (b'{"weight_map":{"a":"\xff"}}', (), "not UTF-8"),
    ],
)
def test_each_fault_of_an_index_says_what_is_there_and_what_is_needed(text, tensors, says):
    index = index_of(text)
    assert index.state == "damaged"
    assert [(fault.slug, fault.tensors) for fault in index.faults] == [("malformed-index", tensors)]
    assert says in index.faults[0].message


def test_several_faults_of_an_index_are_all_reported_and_good_entries_kept():
    index = index_of('{"metadata":{"total_size":-1},"weight_map":{"a":"x","b":1,"c":null,"a":"y","d":"z"}}')
    assert [(fault.message, fault.tensors) for fault in index.faults] == [
        ("key 'a' is there more than once", ("a",)),
        ("weight_map entry 'b' is 1, needs a string; and 1 more entries alike", ("b", "c")),
        ("total_size is -1, needs a natural number", ()),
    ]
    assert index.weight_map == {"a": "x", "d": "z"}


@pytest.mark.parametrize(
    "text",
    ['{"metadata":{"a":' + "[" * 100_000, '{"x":' + "[" * 100_000, "[" * 100_000, '{"weight_map":' + '{"a":' * 100_000],
)
def test_an_index_nested_without_end_is_malformed_and_beyond_a_policys_own_bound_unread(text):
    index = index_of(text)
    assert index.state == "damaged"
    assert "nested deeper than 64 levels" in index.faults[0].message
    own = index_of(text, json_depth=10)
    assert own.state == "unread"
    assert own.reason.startswith("nested deeper than 10 levels (json_depth)")


def test_an_index_of_more_values_than_the_limit_is_unread():
    index = index_of('{"weight_map":{"a":"x","b":"y","c":1}}', json_values=3)
    assert (index.state, index.reason) == ("unread", "more than 3 values (json_values) at byte 27")


@pytest.mark.parametrize("size", ["10678324.0", "1.0678324e7", "1067832400e-2"])
def test_a_total_size_of_fractional_sizes_added_up_is_the_integer_it_is(size):
    index = index_of(f'{{"metadata":{{"total_size":{size}}},"weight_map":{{"a":"x"}}}}')
    assert (index.state, index.faults, index.total_size) == ("read", (), 10_678_324)
    assert isinstance(index.total_size, int)


def test_a_total_size_of_text_is_told_and_the_index_used():
    index = index_of('{"metadata":{"total_size":"12"},"weight_map":{"a":"x"}}')
    assert (index.state, index.weight_map, index.total_size) == ("read", {"a": "x"}, None)
    assert [(f.slug, f.message) for f in index.faults] == [
        ("textual-total-size", "total_size is the text '12', needs a number")
    ]


def test_a_million_wrong_entries_and_duplicates_of_an_index_are_two_faults():
    count = 20_000
    entries = ",".join(f'"{n}":{n}' for n in range(count)) + ',"0":1' * count
    index = index_of(f'{{"weight_map":{{"a":"x",{entries},"a":"y"}}}}')
    assert [fault.message for fault in index.faults] == [
        "key '0' is there more than once; and 20,000 more keys",
        "weight_map entry '0' is 0, needs a string; and 19,999 more entries alike",
    ]
    assert len(index.faults[1].tensors) == count


def test_every_entry_of_an_index_counts_towards_the_limit_of_tensors():
    text = '{"weight_map":{"a":"x","b":%s},"n":{"c":1}}'
    assert index_of(text % '"y"', tensors=3).state == "read"
    for wrong in ("2", "null", "{}"):
        index = index_of(text % wrong, tensors=2)
        assert (index.state, index.reason) == (
            "unread",
            f"more than 2 entries (tensors) at byte {(text % wrong).rindex(':') + 1}",
        )
    many = index_of('{"weight_map":{"a":"x","b":"x","c":"x"}}', tensors=2)
    assert many.reason.startswith("more than 2 entries (tensors)")


def test_names_of_an_index_are_bounded_one_by_one_and_together():
    for text in ('{"weight_map":{"%s":"x","b":"x"}}', '{ "weight_map":{"%s":"x","b":"x"}}'):
        assert index_of(text % ("a" * 511), name_bytes_in_all=512).state == "read"
        assert index_of(text % ("a" * 513)).reason == "a tensor name of 513 bytes, limit 512 (name_bytes)"
        index = index_of(text % ("a" * 512), name_bytes_in_all=512)
        assert index.reason == "513 bytes of tensor names, limit 512 (name_bytes_in_all)"


def test_nothing_of_an_index_is_held_that_nobody_needs():
    """Values of one byte cost a hundred in memory: of 400,000 the reader keeps none."""
    objects = ",".join("[]" for _ in range(90_000))
    for text in (
        f'{{"metadata":{{"a":[{objects}],"b":[{objects}],"c":[{objects}],"d":[{objects}]}},"weight_map":{{}}}}',
        f'{{"x":{{"a":[{objects}],"b":[{objects}],"c":[{objects}],"d":[{objects}]}},"weight_map":{{}}}}',
        f'{{"x":[{",".join([objects] * 4)}],"weight_map":{{}}}}',
    ):
        data = text.encode()
        tracemalloc.start()
        index_of(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10 * len(data)


def strictly(pairs):
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return dict(pairs)


index_keys = st.sampled_from(["metadata", "weight_map", "total_size", "a", "b"])
index_texts = st.recursive(
    st.sampled_from(['"a"', '"metadata"', "1", "null", "2.0"]),
    lambda inner: st.lists(st.tuples(index_keys, inner), max_size=3).map(
        lambda pairs: "{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}"
    ),
    max_leaves=8,
)


@given(st.lists(st.tuples(index_keys, index_texts), max_size=4))
@example([("weight_map", '{"metadata":"a","metadata":"a"}')])
@example([("weight_map", '{"metadata":"a"}'), ("weight_map", '{"metadata":"a"}')])
@example([("weight_map", '{"metadata":"a","a":"a","a":"a"}')])
def test_no_key_of_an_index_is_there_twice_unnoticed(pairs):
    text = "{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}"
    index = index_of(text)
    try:
        value = json.loads(text, object_pairs_hook=strictly)
    except ValueError:
        assert index.state == "damaged", text
        return
    if index.state == "read":
        assert index.weight_map == value["weight_map"], text


def test_the_index_counts_tensors_by_file():
    index = index_of('{"weight_map":{"a":"x","b":"y","c":"x"}}')
    assert index.files == {"x": 2, "y": 1}
    assert index.names_in("x") == ("a", "c")


# --- bounded memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited on Linux alone")
def test_a_hostile_header_of_16_mib_stays_within_a_few_times_its_size(tmp_path):
    size = 16 << 20
    raws = {
        "escapes": b'{"a\\n' + b"a" * size,
        "one long name": b'{"' + b"a" * size + b'":{}}',
        "brackets": b"[" * size,
        "digits": b'{"a":' + b"1" * size,
    }
    for name, raw in raws.items():
        (tmp_path / f"{name}.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw)
    script = (
        "import sys; from auditor.inventory.walk import walk; from auditor.sources.folder import Folder;"
        "from auditor_schemas.policy import Limits;"
        "found = walk(Folder(sys.argv[1], symlinks='follow'), Limits());"
        "print(*sorted(f'{s.path}={s.state}' for s in found.shards), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20)),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:4] == [
        "brackets.safetensors=damaged",
        "digits.safetensors=damaged",
        "escapes.safetensors=damaged",
        "one long name.safetensors=unread",
    ]


def test_of_a_sound_checkpoint_no_tensor_is_made(tmp_path):
    """What the speed of an audit rests on: names and kinds are enough where all is as expected."""
    forge(tmp_path / "v3", like="v3", sparse=True)
    evidence, report = conduct(Subject(source=str(tmp_path / "v3")), Terms(), summarised=False)
    assert report.verdict == "passed"
    assert all(shard.tensors._made is None for shard in evidence.inventory.shards)
