"""A shard that is read in units, by whoever, says what it says read at once; each byte is read once."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from auditor import audit, cli
from auditor.content import Reading, units
from auditor.content.cpu import CpuDevice
from auditor.content.formats import Blocks, Formats
from auditor.content.plan import Part, ShardPlan, whole_shards
from auditor.content.shard import ShardReader
from auditor.content.units import largest_first, merged, units_of
from auditor.content.values import ShardValues
from auditor.errors import ReadError
from auditor.forge import forge
from auditor.inventory.walk import walk
from auditor.sources import open_source
from auditor_schemas.policy import Limits


@pytest.fixture
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ShardReader, tuple[ShardPlan, ...]]]:
    """A reader of a checkpoint, and the plans of its shards."""
    folder = forge(tmp_path / "tiny", break_name=request.param).directory
    source = open_source(str(folder))
    plans = whole_shards(walk(source, Limits()), Formats(Blocks((128, 128), False)))
    yield ShardReader(source, CpuDevice(), digests=False, tick=lambda _: None), plans
    source.close()


BREAKS = [None, "zero-filled-tail", "overlapping-tensors", "uncovered-bytes", "nan-codes", "zero-filled-shard"]


@pytest.mark.parametrize("most", [1, 5_000, 200_000, 1 << 40])
@pytest.mark.parametrize("reader", BREAKS, indirect=True)
def test_units_say_together_what_the_shard_says(reader, most: int) -> None:
    reading, plans = reader
    for plan in plans:
        parts = units_of(plan, digests=False, most=most)
        names = dict.fromkeys(part.name for unit in parts for part in unit.parts)
        assert list(names) == [part.name for part in plan.parts]
        assert sum(unit.bytes for unit in parts) == plan.bytes
        assert [unit.begin for unit in parts[1:]] == [unit.stop for unit in parts[:-1]]
        assert (parts[0].begin, parts[-1].stop) == (0, plan.size)
        assert merged(parts, [reading.read(unit) for unit in parts]) == reading.read(plan)
    if most == 1:
        assert len(parts) > 10


@pytest.mark.parametrize("name", ["header-not-utf8", "header-breaks-off"])
def test_a_shard_of_which_no_tensor_is_known_is_one_unit(tmp_path: Path, name: str) -> None:
    folder = forge(tmp_path / "broken", break_name=name).directory
    found = [audit(folder, depth="full", reading=Reading(depth="full", seed=1, digests=each)) for each in (True, False)]
    assert [report.verdict for report in found] == ["failed", "failed"]
    assert found[0].findings == found[1].findings
    plan = ShardPlan("s", 30, 2, None, (), whole=True)
    assert units_of(plan, digests=False) == [plan]


sizes = st.lists(st.integers(1, 50), min_size=1, max_size=30)


@given(sizes, st.integers(1, 120))
def test_units_are_no_longer_than_asked_for_unless_a_tensor_is(lengths: list[int], most: int) -> None:
    parts, position = [], 100
    for number, length in enumerate(lengths):
        parts.append(Part(f"t{number}", "U8", (length,), position, position + length))
        position += length
    plan = ShardPlan("s", position, 92, "", tuple(parts), whole=True)
    found = units_of(plan, digests=False, most=most)
    assert all(unit.bytes <= most or len(unit.parts) == 1 for unit in found)
    assert sum(unit.bytes for unit in found) == sum(lengths)
    assert [unit.bytes for unit in largest_first(found)] == sorted((unit.bytes for unit in found), reverse=True)
    assert units_of(plan, digests=True, most=1) == [plan]
    assert units_of(replace(plan, whole=False), digests=False, most=1) == [replace(plan, whole=False)]


def values(zeros: int, stamp: str = "a") -> ShardValues:
    return ShardValues(file="s", size=30, tensors=(), bytes_read=10, zero_tail=zeros, stamps={"s": stamp})


@pytest.mark.parametrize(("zeros", "tail"), [((0, 0, 0), 0), ((9, 10, 4), 4), ((9, 5, 10), 15), ((3, 10, 10), 23)])
def test_zeros_at_the_end_run_from_unit_to_unit(zeros: tuple[int, ...], tail: int) -> None:
    plans = [ShardPlan("s", 30, 2, "", (), whole=True, begin=begin, end=begin + 10) for begin in (0, 10, 20)]
    assert merged(plans, [values(count) for count in zeros]).zero_tail == tail


def test_units_of_a_shard_that_changed_between_them_are_no_shard() -> None:
    plans = [ShardPlan("s", 20, 2, "", (), whole=True, begin=begin, end=begin + 10) for begin in (0, 10)]
    with pytest.raises(ReadError, match="s: changed while it was read"):
        merged(plans, [values(0), values(0, "b")])


def test_an_audit_in_units_is_the_same_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = forge(tmp_path / "tiny").directory

    def audited(name: str, *options: str) -> dict:
        path = tmp_path / f"{name}.json"
        command = ["audit", str(folder), "--depth", "full", "--seed", "1", "--no-digests", "--quiet"]
        assert cli.main([*command, *options, "--json", str(path)]) == 0
        return json.loads(path.read_text("utf-8"))

    whole = audited("whole")
    monkeypatch.setattr(units, "UNIT_BYTES", 100_000)
    kept = ["--resume", str(tmp_path / "place")]
    found = [audited("in units"), audited("kept", *kept), audited("again", *kept)]
    assert len(list((tmp_path / "place").glob("*.msgpack"))) > 40
    assert [each["run"].pop("resumed_shards") for each in found] == [None, 0, 5]
    whole.pop("run")
    for each in found:
        each.pop("run")
        assert each == whole
