"""A unit that another machine reads: what goes there is all it needs, and what comes back is held against it."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from auditor.content import away
from auditor.content.away import Answer, Opening, Order, answered, ordered, read_away
from auditor.content.cpu import CpuDevice
from auditor.content.formats import Blocks, Formats
from auditor.content.plan import ShardPlan, whole_shards
from auditor.content.shard import ShardReader
from auditor.errors import ReadError
from auditor.inventory.walk import walk
from auditor.sources import Source, open_source
from auditor.sources.entry import HERE
from auditor_schemas.policy import Limits


@pytest.fixture
def source(copy: Path) -> Iterator[Source]:
    away._reader.cache_clear()
    found = open_source(str(copy))
    yield found
    found.close()


@pytest.fixture
def plan(source: Source) -> ShardPlan:
    return whole_shards(walk(source, Limits()), Formats(Blocks((128, 128), False)))[0]


def order(source: Source, plan: ShardPlan, **more: object) -> bytes:
    return ordered(Opening(source.uri, **more), plan, source.stamp(plan.file), digests=True)  # type: ignore[arg-type]  # names as they are


def decoded(data: bytes) -> Answer:
    return msgspec.msgpack.decode(data, type=Answer)


def test_what_another_machine_reads_is_what_this_one_does(source: Source, plan: ShardPlan) -> None:
    answer = read_away(order(source, plan))
    assert len(answer) < 100_000
    own = ShardReader(source, CpuDevice(), digests=True, tick=lambda _: None).read(plan)
    assert answered(answer, plan, source.stamp).values == own


@pytest.mark.parametrize("what", ["time", "size", "header", "gone", "tool"])
def test_a_machine_that_sees_another_file_says_so(copy: Path, source: Source, plan: ShardPlan, what: str) -> None:
    data = order(source, plan)
    if what == "time":
        os.utime(copy / plan.file)
    elif what == "size":
        data = order(source, replace(plan, size=plan.size + 1))
    elif what == "header":
        data = order(source, replace(plan, header_sha256="0" * 64))
    elif what == "gone":
        (copy / plan.file).unlink()
    else:
        data = msgspec.msgpack.encode(replace(msgspec.msgpack.decode(data, type=Order), tool="0.0.1"))
    answer = decoded(read_away(data))
    assert answer.values is None
    assert answer.here
    assert "0.0.1" in answer.error if what == "tool" else plan.file in answer.error


def test_what_is_not_allowed_here_is_not_allowed_there(source: Source, plan: ShardPlan, tmp_path: Path) -> None:
    answer = decoded(read_away(order(source, plan, roots=(str(tmp_path / "elsewhere"),))))
    assert answer.values is None
    remote = replace(
        msgspec.msgpack.decode(order(source, plan), type=Order), opening=Opening("http://127.0.0.1:9", private=False)
    )
    answer = decoded(read_away(msgspec.msgpack.encode(remote)))
    assert answer.values is None


def test_what_comes_back_is_held_against_what_was_asked(source: Source, plan: ShardPlan) -> None:
    found = decoded(read_away(order(source, plan)))
    assert found.values is not None
    for data in (b"", b"\xc1", b"\x90" * 100_000, msgspec.msgpack.encode([1])):
        with pytest.raises(ReadError, match="no result"):
            answered(data, plan, source.stamp)
    tensors = found.values.tensors
    others = [
        replace(found.values, file="another"),
        replace(found.values, size=1),
        replace(found.values, tensors=(replace(tensors[0], name="another"), *tensors[1:])),
    ]
    for values in others:
        with pytest.raises(ReadError, match="another unit"):
            answered(msgspec.msgpack.encode(Answer(values)), plan, source.stamp)
    for stamps in ({plan.file: "1:2"}, {plan.file: None}, {}):
        lie = replace(found.values, stamps=stamps)
        answer = answered(msgspec.msgpack.encode(Answer(lie)), plan, source.stamp)
        assert (answer.values, answer.here, answer.code) == (None, True, "changed")


def test_stamps_that_come_back_are_this_machine_s(source: Source, plan: ShardPlan) -> None:
    """So that what is kept for --resume is as strict as if it had been read here."""
    found = decoded(read_away(order(source, plan)))
    assert found.values is not None
    other = {file: f"{str(stamp).partition(HERE)[0]}{HERE}another" for file, stamp in found.values.stamps.items()}
    answer = answered(msgspec.msgpack.encode(Answer(replace(found.values, stamps=other))), plan, source.stamp)
    assert answer.values is not None
    assert answer.values.stamps == {file: source.stamp(file) for file in other}
