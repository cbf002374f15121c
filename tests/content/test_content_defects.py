"""Content audits that once read as complete and were not, or ended where they should not: each stays mended."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from auditor import audit
from auditor.content import Reading, cpu, shard
from auditor.content.formats import Blocks, Formats
from auditor.content.fp8 import block_scales, dequantise
from auditor.content.plan import whole_shards
from auditor.content.read import read_content
from auditor.engine.local import Local, Meter
from auditor.errors import ReadError, UsageError
from auditor.families.scaling import scale_name
from auditor.forge import forge, plan_of
from auditor.forge.content import Content
from auditor.forge.write import write
from auditor.inventory.walk import walk
from auditor.sources import open_source
from auditor.sources.folder import Folder
from auditor_schemas.policy import DEFAULT_LIMITS

BLOCKS = Blocks((128, 128), powers_of_two=False)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return forge(tmp_path / "tiny").directory


def written(folder: Path, change) -> Path:
    """A tiny checkpoint with real content whose plan was changed before it was written."""
    plan = plan_of("tiny")
    change(plan)
    folder.mkdir()
    write(plan, folder, strips=Content(plan, 0).strips)
    return folder


def edited_config(folder: Path, **quantization: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] |= quantization
    (folder / "config.json").write_text(json.dumps(config))


def test_where_no_thread_can_begin_nothing_passes(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a GPU has no memory left: a device that cannot be made is no reason to have read nothing."""

    def refuse(self, slab_bytes: int = 0) -> None:
        raise MemoryError("no room for a buffer")

    monkeypatch.setattr(cpu.CpuDevice, "__init__", refuse)
    report = audit(tiny, depth="full")
    assert report.verdict == "incomplete"
    assert report.incomplete == ("the tensor data of 5 shards was not read: MemoryError: no room for a buffer",)
    assert report.content_digest is None


@pytest.mark.parametrize("choice", [{"jobs": 0}, {"jobs": -1}, {"seed": -1}, {"seed": 1 << 63}, {"sample_bytes": 0}])
def test_readings_that_cannot_be_are_refused(choice: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(choice))):
        Reading(depth="full", **choice)


def test_a_negative_seed_is_a_usage_error_of_the_command(tiny: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "auditor", "audit", tiny, "--depth", "full", "--seed=-1"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "needs a whole number from 0" in done.stderr


def apart(plan) -> None:
    """One weight's scales in a shard of their own."""
    weight = f"model.layers.{plan.moe_layer}.mlp.experts.1.up_proj.weight"
    moved = next(tensor for tensor in plan.tensors() if tensor.name == scale_name(weight))
    for each in plan.shards:
        each.tensors = [tensor for tensor in each.tensors if tensor.name != moved.name]
    plan.shards.append(type(plan.shards[0])("model-00006-of-000006.safetensors", [moved]))
    for number, each in enumerate(plan.shards, 1):
        each.file = f"model-{number:05}-of-{len(plan.shards):06}.safetensors"


def test_weights_whose_scales_could_not_be_read_are_not_finished_work(tmp_path: Path, monkeypatch) -> None:
    folder = written(tmp_path / "apart", apart)
    last = sorted(folder.glob("*.safetensors"))[-1].name
    state = str(tmp_path / "state")
    opened = Folder.open
    failing = [True]

    def flaky(self, path: str):
        file = opened(self, path)
        if path == last and failing and sys._getframe(1).f_code.co_name == "_elsewhere":
            file.close()
            raise ReadError(f"{path}: Input/output error")
        return file

    monkeypatch.setattr(Folder, "open", flaky)
    first = audit(folder, depth="full", reading=Reading(depth="full", resume=state, seed=1))
    assert first.verdict == "incomplete"
    assert any("not judged" in reason for reason in first.incomplete)
    assert first.content_digest is None
    failing.clear()
    again = audit(folder, depth="full", reading=Reading(depth="full", resume=state, seed=1))
    whole = audit(folder, depth="full", reading=Reading(depth="full", seed=1))
    assert again.verdict == "passed"
    assert again.coverage.blocks_read == whole.coverage.blocks_read > first.coverage.blocks_read


@pytest.mark.parametrize("itself", [True, False])
def test_a_shard_of_scales_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch, itself: bool) -> None:
    folder = written(tmp_path / "apart", apart)
    last = sorted(folder.glob("*.safetensors"))[-1].name
    opened = Folder.open
    failing = ("_elsewhere", "read") if itself else ("_elsewhere",)

    def flaky(self, path: str):
        if path == last and sys._getframe(1).f_code.co_name in failing:
            raise ReadError(f"{path}: Input/output error")
        return opened(self, path)

    monkeypatch.setattr(Folder, "open", flaky)
    report = audit(folder, depth="full", reading=Reading(depth="full", seed=1, jobs=1))
    assert report.verdict == "incomplete"
    (reason,) = [each for each in report.incomplete if last in each]
    assert reason.startswith(f"{last}: " if itself else "model-")


def test_a_shard_of_scales_that_changes_after_they_were_used_is_noticed(tmp_path: Path) -> None:
    folder = written(tmp_path / "apart", apart)
    last = sorted(folder.glob("*.safetensors"))[-1]
    source = open_source(str(folder))
    plans = whole_shards(walk(source, DEFAULT_LIMITS), Formats(BLOCKS))
    plan = next(each for each in plans if any(p.scale and p.scale.file == last.name for p in each.parts))
    reader = shard.ShardReader(source, cpu.CpuDevice(), digests=False, tick=lambda _: None)
    assert last.name in reader.read(plan).stamps
    used = []
    scales = shard._Pass._elsewhere

    def then_changed(self, at):
        data = scales(self, at)
        used.append(at)
        os.utime(last, ns=(0, last.stat().st_mtime_ns + 1_000_000_000))
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard._Pass, "_elsewhere", then_changed)
        with pytest.raises(ReadError, match=f"{last.name}: changed while it was read"):
            reader.read(plan)
    assert used


def test_blocks_that_dequantise_to_infinity_are_an_error(tmp_path: Path) -> None:
    report = audit(forge(tmp_path / "x", break_name="overflowing-scale").directory, depth="full")
    roots = [(each.rule, each.severity) for each in report.findings if not each.caused_by and each.severity != "info"]
    assert roots == [("VAL118", "error")]


def test_weights_too_wide_to_judge_leave_the_audit_incomplete(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditor.content.plan.STRIP_BYTES", 128 * 300)
    report = audit(tiny, depth="full")
    assert report.verdict == "incomplete"
    assert any("a row of weight blocks, or all block scales" in reason for reason in report.incomplete)
    assert 0 < report.coverage.blocks_read < report.tallies.scale_elements


@pytest.mark.parametrize("side", [1 << 20, 1 << 24])
def test_blocks_far_larger_than_a_weight_cost_no_memory(side: int) -> None:
    weight = np.ones((5, 7), np.float32)
    scales = block_scales(weight, (side, side))
    assert scales.shape == (1, 1)
    assert dequantise(np.full((5, 7), 0x7E, np.uint8), scales, (side, side)) == pytest.approx(1)


def test_what_is_finished_when_an_interruption_comes_is_kept() -> None:
    kept = []

    def watch(_: int) -> None:
        raise KeyboardInterrupt

    def worker(meter: Meter):
        return lambda task: task

    engine = Local[int, int](
        2, worker, finished=lambda task, result: kept.append(task), failed=lambda *_: None, watch=watch
    )
    with pytest.raises(KeyboardInterrupt):
        engine.run(range(1, 9))
    assert len(kept) >= 2  # both threads had ended a task before anybody could be told to stop


def test_a_sample_of_a_tensor_in_two_shards_reads_the_one_that_loaders_take(tmp_path: Path) -> None:
    folder = forge(tmp_path / "x", break_name="duplicate-tensor").directory
    assert audit(folder).verdict == "failed"
    assert audit(folder, depth="sample").verdict == "failed"


def test_a_sample_that_reads_nothing_does_not_pass(tiny: Path) -> None:
    report = audit(tiny, depth="sample", reading=Reading(depth="sample", sample_bytes=1))
    assert report.verdict == "incomplete"
    assert report.incomplete == ("nothing fits into 1 bytes (--sample-bytes)",)


@pytest.mark.parametrize("budget", [400_000, 2_000_000])
def test_a_sample_with_its_scales_and_spot_checks_keeps_its_budget(tiny: Path, budget: int, monkeypatch) -> None:
    read = []
    from auditor.sources import folder

    for name in ("read", "read_into"):
        original = getattr(folder._OpenFile, name)

        def counted(self, begin, end, original=original, name=name):
            read.append(end - begin if name == "read" else len(end))
            return original(self, begin, end)

        monkeypatch.setattr(folder._OpenFile, name, counted)
    source = open_source(str(tiny))
    inventory = walk(source, DEFAULT_LIMITS)
    headers = 5 * max(each.header_bytes for each in inventory.shards)
    read.clear()
    read_content(source, inventory, BLOCKS, Reading(depth="sample", sample_bytes=budget, seed=1), mtp_layers=(4,))
    assert budget / 2 < sum(read) <= budget + headers


def test_a_damaged_state_folder_is_begun_anew(tiny: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "audit.msgpack").write_bytes(b"\x81\xa1\xff\x01")
    (state / "audit.msgpack.123.0123abcd.partial").write_bytes(b"")
    os.utime(state / "audit.msgpack.123.0123abcd.partial", (0, 0))
    assert audit(tiny, depth="full", reading=Reading(depth="full", resume=str(state))).verdict == "passed"
    assert not list(state.glob("*.partial"))


def with_entries(folder: Path, entries: Callable[[int], dict[str, Any]], tail: bytes = b"") -> None:
    """The folder's first shard with further entries in its header, made for its bytes of data, and a tail behind."""
    path = sorted(folder.glob("*.safetensors"))[0]
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length]) | entries(len(raw) - 8 - length)
    text = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :] + tail)


def test_overlapping_tensors_without_end_are_not_read_without_end(tiny: Path) -> None:
    with_entries(
        tiny,
        lambda payload: {
            f"x.{n}": {"dtype": "U8", "shape": [payload], "data_offsets": [0, payload]} for n in range(500)
        },
    )
    report = audit(tiny, depth="full")
    assert report.verdict == "failed"
    assert report.coverage.payload_bytes_read < 4 * sum(each.stat().st_size for each in tiny.iterdir())


def test_zeros_before_bytes_of_no_tensor_are_no_tail(tmp_path: Path) -> None:
    folder = forge(tmp_path / "x", break_name="zero-filled-tail").directory
    broken = next(path for path in sorted(folder.glob("*.safetensors")) if path.read_bytes().endswith(bytes(100_000)))
    with broken.open("ab") as file:
        file.write(b"J" * 4096)
    rules = [
        {each.rule for each in audit(folder, depth="full", reading=Reading(depth="full", digests=digests)).findings}
        for digests in (True, False)
    ]
    assert "VAL112" not in rules[0] | rules[1]


def test_a_name_that_looks_like_a_pattern_hides_no_digest(tiny: Path) -> None:
    hostile = "model.layers.{0-4}.input_layernorm.weight"
    with_entries(
        tiny,
        lambda payload: {hostile: {"dtype": "U8", "shape": [1], "data_offsets": [payload, payload + 1]}},
        tail=b"z",
    )
    digest = audit(tiny, depth="full").content_digest
    assert digest is not None
    assert sum(len(each.xxh3_128) for each in digest.tensors) == 310
    real, named = hostile, hostile.replace("{", "[{]")
    assert [len(each.xxh3_128) for each in digest.tensors if each.pattern in (real, named)] == [1, 5]


def test_complex_numbers_are_counted_once(tmp_path: Path) -> None:
    folder = forge(tmp_path / "x").directory
    path = sorted(folder.glob("*.safetensors"))[0]
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    payload = len(raw) - 8 - length
    header["odd"] = {"dtype": "C64", "shape": [10], "data_offsets": [payload, payload + 80]}
    text = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :] + bytes(80))
    report = audit(folder, depth="full")
    assert report.probes is not None
    (group,) = [each for each in report.probes.groups if each.kind == "odd"]
    assert (group.elements, group.elements_read) == (10, 10)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("F8_E4M3", []), ("F8_E4M3", [0]), ("F8_E4M3", [7]), ("F8_E4M3", [2, 3, 4]), ("F32", [0, 5]), ("BF16", [])],
)
def test_tensors_of_odd_shapes_are_read_without_a_crash(tmp_path: Path, dtype: str, shape: list[int]) -> None:
    folder = forge(tmp_path / "x").directory
    path = sorted(folder.glob("*.safetensors"))[0]
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    payload = len(raw) - 8 - length
    count = int(np.prod(shape, dtype=int)) * {"F8_E4M3": 1, "BF16": 2, "F32": 4}[dtype]
    header["odd.weight"] = {"dtype": dtype, "shape": shape, "data_offsets": [payload, payload + count]}
    text = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :] + bytes(count))
    for depth in ("sample", "full"):
        report = audit(folder, depth=depth)
        assert report.incomplete == ()
        assert {each.outcome for each in report.outcomes} <= {"passed", "failed", "not_applicable"}


def test_probes_are_written_to_json_and_read_back_equal(tiny: Path) -> None:
    source = open_source(str(tiny))
    content = read_content(source, walk(source, DEFAULT_LIMITS), BLOCKS, Reading(depth="full", seed=1), mtp_layers=(4,))
    back = msgspec.json.decode(msgspec.json.encode(content.probes), type=type(content.probes))
    assert back == content.probes
