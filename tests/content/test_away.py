"""A unit that another machine reads: what goes there is all it needs, and what comes back is held against it."""

import fcntl
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from auditor.content import away
from auditor.content.away import Answer, Opening, Order, answered, ordered, packed, read_away, unpacked
from auditor.content.cpu import CpuDevice
from auditor.content.formats import Blocks, Formats
from auditor.content.gpu import available
from auditor.content.plan import ShardPlan, whole_shards
from auditor.content.shard import ShardReader
from auditor.errors import ReadError
from auditor.inventory.walk import walk
from auditor.sources import Source, open_source
from auditor.sources.entry import HERE
from auditor_schemas.policy import Limits
from tests.servers.serving import Server, ranged


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
    return unpacked(data, Answer)


def test_what_another_machine_reads_is_what_this_one_does(source: Source, plan: ShardPlan) -> None:
    answer = read_away(order(source, plan))
    assert len(answer) < 100_000
    own = ShardReader(source, CpuDevice(), digests=True, tick=lambda _: None).read(plan)
    assert answered(answer, plan, source.stamp).values == own


@pytest.mark.parametrize("what", ["time", "size", "header", "gone", "tool"])
def test_a_machine_that_sees_another_file_says_so(copy: Path, source: Source, plan: ShardPlan, what: str) -> None:
    data, seen = order(source, plan), source.stamp(plan.file)
    if what == "time":
        os.utime(copy / plan.file)
    elif what == "size":
        data = order(source, replace(plan, size=plan.size + 1))
    elif what == "header":
        data = order(source, replace(plan, header_sha256="0" * 64))
    elif what == "gone":
        (copy / plan.file).unlink()
    else:
        data = packed(replace(unpacked(data, Order), tool="0.0.1"))
    answer = decoded(read_away(data))
    assert answer.values is None
    assert answer.here
    assert "0.0.1" in answer.error if what == "tool" else plan.file in answer.error
    if what == "time":
        stamps = [str(each).partition(HERE)[0].partition(":")[2] for each in (source.stamp(plan.file), seen)]
        assert answer.error == "sees another {}, of time or ETag {} and not {}".format(plan.file, *stamps)


def test_a_machine_that_sees_another_size_names_both(copy: Path, source: Source, plan: ShardPlan) -> None:
    data = order(source, plan)
    with (copy / plan.file).open("ab") as file:
        file.write(b"more")
    answer = decoded(read_away(data))
    assert answer.error == f"sees another {plan.file}, of {plan.size + 4} bytes and not {plan.size}"


def test_a_machine_without_the_source_says_that_it_is_not_found(copy: Path, source: Source, plan: ShardPlan) -> None:
    data = order(source, plan)
    copy.rename(copy.with_name("elsewhere"))
    away._reader.cache_clear()
    answer = decoded(read_away(data))
    assert (answer.values, answer.here, answer.code) == (None, True, "not_found")
    assert answer.error == f"{copy}: no such folder"


def test_a_web_server_s_files_are_read_on_another_machine(copy: Path, source: Source, plan: ShardPlan) -> None:
    """It has no listing: a file is known when it has been asked for."""
    with Server(lambda request: ranged(copy / request.target.path.rpartition("/")[2], request)) as server:
        here = open_source(f"{server.url}/", cache=False)
        for each in sorted(copy.glob("*.safetensors")):
            here.open(each.name).close()
        stamp = here.stamp(plan.file)
        assert stamp is not None
        data = ordered(Opening(f"{server.url}/"), plan, stamp, digests=True)
        answer = answered(read_away(data), plan, here.stamp)
        other = decoded(read_away(ordered(Opening(f"{server.url}/"), plan, f"{plan.size}:x", digests=True)))
        here.close()
    assert answer.values is not None, answer.error
    own = ShardReader(source, CpuDevice(), digests=True, tick=lambda _: None).read(plan)
    assert answer.values.tensors == own.tensors
    assert other.error == f"sees another {plan.file}, of time or ETag {stamp.partition(':')[2]} and not x"


def test_what_is_not_allowed_here_is_not_allowed_there(source: Source, plan: ShardPlan, tmp_path: Path) -> None:
    answer = decoded(read_away(order(source, plan, roots=(str(tmp_path / "elsewhere"),))))
    assert answer.values is None
    remote = replace(unpacked(order(source, plan), Order), opening=Opening("http://127.0.0.1:9", private=False))
    answer = decoded(read_away(packed(remote)))
    assert answer.values is None


def test_what_comes_back_is_held_against_what_was_asked(source: Source, plan: ShardPlan) -> None:
    found = decoded(read_away(order(source, plan)))
    assert found.values is not None
    for data in (b"", b"\xc1", *map(zlib.compress, (b"\xc1", b"\x90" * 100_000, msgspec.msgpack.encode([1])))):
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
            answered(packed(Answer(values)), plan, source.stamp)
    for stamps in ({plan.file: "1:2"}, {plan.file: None}, {}):
        lie = replace(found.values, stamps=stamps)
        answer = answered(packed(Answer(lie)), plan, source.stamp)
        assert (answer.values, answer.here, answer.code) == (None, True, "changed")


def test_what_would_be_larger_than_any_message_is_none(
    source: Source, plan: ShardPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_away(order(source, plan))
    monkeypatch.setattr(away, "_LARGEST", 1000)
    with pytest.raises(ReadError, match="no result"):
        answered(found, plan, source.stamp)


def test_stamps_that_come_back_are_this_machine_s(source: Source, plan: ShardPlan) -> None:
    """So that what is kept for --resume is as strict as if it had been read here."""
    found = decoded(read_away(order(source, plan)))
    assert found.values is not None
    other = {file: f"{str(stamp).partition(HERE)[0]}{HERE}another" for file, stamp in found.values.stamps.items()}
    answer = answered(packed(Answer(replace(found.values, stamps=other))), plan, source.stamp)
    assert answer.values is not None
    assert answer.values.stamps == {file: source.stamp(file) for file in other}


def test_what_this_machine_lacks_is_an_answer(source: Source, plan: ShardPlan, tmp_path: Path) -> None:
    """In a process of its own, as nothing here may have been imported before."""
    (tmp_path / "order").write_bytes(order(source, plan))
    program = (
        "import sys\n"
        "for name in ('numpy', 'numba', 'xxhash'): sys.modules[name] = None\n"
        "from auditor.content.away import read_away\n"
        "sys.stdout.buffer.write(read_away(open(sys.argv[1], 'rb').read()))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "order")]
    answer = decoded(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert (answer.here, answer.no_gpu) == (True, False)
    assert answer.error == "lacks numpy: pip install 'checkpoint-auditor[content]'"


@pytest.mark.skipif(not available().reason, reason="a GPU is here")
def test_a_machine_without_the_gpu_that_it_was_taken_to_have_says_so(source: Source, plan: ShardPlan) -> None:
    data = ordered(Opening(source.uri), plan, source.stamp(plan.file), digests=True, device="cuda")
    answer = decoded(read_away(data))
    assert (answer.values, answer.here, answer.no_gpu) == (None, True, True)
    assert answer.error == available().reason


def test_kernels_are_compiled_by_one_process_of_a_machine_at_a_time(
    source: Source, plan: ShardPlan, tmp_path: Path
) -> None:
    (tmp_path / "order").write_bytes(order(source, plan))
    folder = tmp_path / "auditor" / "kernels"
    folder.mkdir(parents=True, mode=0o700)
    program = (
        "import sys, auditor.content.away as away, auditor.content.kernels.compiled\n"
        "print('ready', flush=True)\n"
        "print(len(away.read_away(open(sys.argv[1], 'rb').read())), flush=True)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "order")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2)
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert int(process.stdout.readline()) > 1000


def test_kernels_are_there_before_a_unit_asks_for_them() -> None:
    """In a process of its own, as nothing here may have been imported before."""
    program = (
        "from auditor.content.away import compile_kernels; compile_kernels()\n"
        "from auditor.content.kernels.strips import reduce_strip\n"
        "print(len(reduce_strip.overloads))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "1\n"
