"""Depths sample and full on real checkpoints: digests, samples, changes, interruptions, what a person is told."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors
import xxhash

import auditor
from auditor import audit
from auditor.cli.audit import size as parse_size
from auditor.comparison.derive import expectations_of
from auditor.content import Reading
from auditor.content.cpu import CpuDevice
from auditor.content.formats import Blocks, Formats
from auditor.content.gpu import available
from auditor.content.place import open_place
from auditor.content.plan import whole_shards
from auditor.content.read import read_content
from auditor.content.sample import sampled_shards
from auditor.content.shard import ShardReader
from auditor.content.state import Seal, State
from auditor.errors import ReadError, UsageError
from auditor.forge import forge
from auditor.forge.plan import LIKES, Like
from auditor.gather import Subject
from auditor.inventory.walk import walk
from auditor.opening import open_checkpoint
from auditor.patterns import expand
from auditor.run import Terms, conduct
from auditor.sources import open_source
from auditor.sources.folder import Folder
from auditor_schemas.policy import DEFAULT_LIMITS
from auditor_schemas.report import AuditReport

BLOCKS = Blocks((128, 128), powers_of_two=False)
MTP = (4,)


def stable(report: AuditReport) -> dict:
    """A report without what differs from run to run."""
    document = report.model_dump(mode="json")
    for field in ("started_at", "duration_s", "resumed_shards"):
        del document["run"][field]
    return document


def formats_of(folder: Path) -> Formats:
    """The formats that an audit reads a checkpoint by."""
    with open_checkpoint(str(folder), DEFAULT_LIMITS) as checkpoint:
        return Formats(BLOCKS, expectations_of(checkpoint.configuration()))


def shards_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


# --- full ---


def test_full_audit_of_a_sound_checkpoint_passes_and_reads_every_byte(sound: Path) -> None:
    report = audit(sound, depth="full")
    assert report.verdict == "passed"
    assert [finding.message for finding in report.findings if finding.severity != "info"] == []
    assert report.coverage.payload_bytes_read == report.inventory.payload_bytes
    assert report.coverage.tensors_read == report.inventory.tensors
    assert report.probes is not None
    trips = [group.round_trip for group in report.probes.groups if group.round_trip is not None]
    assert sum(trip.blocks for trip in trips) == sum(trip.exact for trip in trips) == report.coverage.blocks_read
    assert sum(trip.blocks for trip in trips) == report.tallies.scale_elements
    assert {each.verdict for each in report.probes.tensors} == {"exact"}
    assert AuditReport.model_validate_json(report.model_dump_json()) == report


def test_shard_digests_are_what_sha256_gives_and_tensor_digests_what_xxh3_gives(sound: Path) -> None:
    digest = audit(sound, depth="full").content_digest
    assert digest is not None
    assert {each.file: each.sha256 for each in digest.shards} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in shards_of(sound)
    }
    told = {
        name: value for each in digest.tensors for name, value in zip(expand(each.pattern), each.xxh3_128, strict=True)
    }
    stored = {}
    for path in shards_of(sound):
        raw = path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        for name, header in json.loads(raw[8 : 8 + length]).items():
            if name != "__metadata__":
                begin, end = header["data_offsets"]
                stored[name] = xxhash.xxh3_128_hexdigest(raw[8 + length + begin : 8 + length + end])
    assert told == stored


def test_digests_cover_bytes_that_no_tensor_claims(tmp_path: Path) -> None:
    forge(tmp_path / "gap", break_name="trailing-bytes")
    digest = audit(tmp_path / "gap", depth="full").content_digest
    assert digest is not None
    for each in digest.shards:
        assert each.sha256 == hashlib.sha256((tmp_path / "gap" / each.file).read_bytes()).hexdigest()


def test_without_digests_there_are_none_and_the_rest_is_the_same(sound: Path) -> None:
    with_digests = audit(sound, depth="full", reading=Reading(depth="full", seed=1))
    without = audit(sound, depth="full", reading=Reading(depth="full", seed=1, digests=False))
    assert without.content_digest is None
    assert without.probes == with_digests.probes


def test_probes_agree_with_what_safetensors_and_numpy_read(sound: Path) -> None:
    report = audit(sound, depth="full")
    norms = {}
    for path in shards_of(sound):
        with safetensors.safe_open(path, framework="pt") as file:
            norms |= {name: file.get_tensor(name).float().numpy() for name in file.keys() if "norm" in name}  # noqa: SIM118  # no mapping
    assert report.probes is not None
    told = {(each.layer, each.kind): each for each in report.probes.groups}
    for name, values in norms.items():
        layer = int(name.split(".")[2]) if name.startswith("model.layers.") else None
        kind = name.split(".", 3)[3] if layer is not None else name
        assert told[layer, kind].minimum == values.min()
        assert told[layer, kind].maximum == values.max()


def test_one_thread_and_many_read_the_same(sound: Path) -> None:
    one = audit(sound, depth="full", reading=Reading(depth="full", seed=5, jobs=1))
    many = audit(sound, depth="full", reading=Reading(depth="full", seed=5, jobs=7))
    assert stable(one) == stable(many)


def test_a_checkpoint_with_a_broken_config_is_still_read(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    report = audit(copy, depth="full")
    assert report.verdict == "failed"
    assert report.coverage.payload_bytes_read == report.inventory.payload_bytes


def test_a_truncated_shard_is_read_as_far_as_its_tensors_are_whole(copy: Path) -> None:
    path = shards_of(copy)[1]
    os.truncate(path, path.stat().st_size - 1000)
    report = audit(copy, depth="full")
    assert report.verdict == "failed"
    assert 0 < report.inventory.payload_bytes - report.coverage.payload_bytes_read < 600_000


def test_overlapping_tensors_are_each_read_whole(tmp_path: Path) -> None:
    forge(tmp_path / "overlap", break_name="overlapping-tensors")
    report = audit(tmp_path / "overlap", depth="full")
    assert report.verdict == "failed"
    assert report.coverage.tensors_read == report.inventory.tensors
    assert report.content_digest is not None
    for each in report.content_digest.shards:
        assert each.sha256 == hashlib.sha256((tmp_path / "overlap" / each.file).read_bytes()).hexdigest()


# --- sample ---


def plans(folder: Path, *, seed: int, budget: int):
    with_source = open_source(str(folder))
    inventory = walk(with_source, DEFAULT_LIMITS)
    return sampled_shards(inventory, Formats(BLOCKS), seed=seed, budget=budget, mtp_layers=MTP)


def test_a_sample_is_repeated_by_its_seed_and_differs_by_another(sound: Path) -> None:
    assert plans(sound, seed=1, budget=1 << 20) == plans(sound, seed=1, budget=1 << 20)
    assert plans(sound, seed=1, budget=4 << 20) != plans(sound, seed=2, budget=4 << 20)


@pytest.mark.parametrize("budget", [1, 5_000, 100_000, 1 << 20, 5 << 20, 1 << 40])
def test_a_sample_keeps_its_budget_and_uses_most_of_it(sound: Path, budget: int) -> None:
    inventory = walk(open_source(str(sound)), DEFAULT_LIMITS)
    chosen = sum(plan.bytes for plan in plans(sound, seed=0, budget=budget))
    assert chosen <= budget
    assert chosen >= min(budget - 200_000, inventory.payload_bytes)


def test_a_sample_of_a_release_reaches_every_kind_group_edge_and_end(tmp_path: Path) -> None:
    forge(tmp_path / "v3", like="v3", sparse=True)
    inventory = walk(open_source(str(tmp_path / "v3")), DEFAULT_LIMITS)
    chosen = sampled_shards(inventory, Formats(BLOCKS), seed=0, budget=2 << 30, mtp_layers=(61,))
    assert sum(plan.bytes for plan in chosen) <= 2 << 30
    assert sum(plan.bytes for plan in chosen) > 1.9 * (1 << 30)
    parts = {part.name: part for plan in chosen for part in plan.parts}
    kinds = {auditor.patterns.kind_of(name) for name in parts}
    assert kinds == {auditor.patterns.kind_of(name) for name in inventory.tensors}
    assert {chosen[0].file, chosen[-1].file} == {inventory.shards[0].path, inventory.shards[-1].path}
    assert any((512, 576) in part.rows for name, part in parts.items() if "kv_a_proj_with_mqa.weight" in name)
    for name in ("model.embed_tokens.weight", "model.layers.61.embed_tokens.weight", "lm_head.weight"):
        assert {(0, 128), (129_152, 129_280)} <= set(parts[name].rows)
    layers = {auditor.patterns.layer_of(name) for name in parts if ".mlp.experts." in name and name.endswith(".weight")}
    assert len(layers) == 59
    for part in parts.values():
        if part.scale is not None:
            assert f"{part.name}_scale_inv" in parts


def test_a_sampled_pass_says_its_share_and_never_that_all_is_verified(sound: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "auditor", "audit", sound, "--depth", "sample", "--sample-bytes", "1MB", "--quiet"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "passed at depth sample, 8." in done.stdout
    assert "% of bytes" in done.stdout


def test_a_sampled_audit_is_repeated_by_the_seed_in_its_report(sound: Path) -> None:
    first = audit(sound, depth="sample", reading=Reading(depth="sample", sample_bytes=1 << 20))
    assert first.run.seed is not None
    again = audit(sound, depth="sample", reading=Reading(depth="sample", sample_bytes=1 << 20, seed=first.run.seed))
    assert stable(again) == stable(first)
    assert 0 < first.coverage.payload_bytes_read <= 1 << 20
    assert first.content_digest is None


def test_a_sample_as_large_as_the_checkpoint_sees_what_full_sees(sound: Path) -> None:
    sampled = audit(sound, depth="sample", reading=Reading(depth="sample", sample_bytes=1 << 40))
    full = audit(sound, depth="full")
    assert sampled.coverage.blocks_read == full.coverage.blocks_read
    assert sampled.coverage.payload_bytes_read == full.coverage.payload_bytes_read


# --- what changes, fails or is interrupted ---


def rewrite_in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"0123456789")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))  # on a disk with coarse times, too


def replace_file(path: Path) -> None:
    other = path.with_suffix(".new")
    shutil.copy(path, other)
    other.replace(path)


def cut_short(path: Path) -> None:
    os.truncate(path, 50_000)


def read_one(folder: Path, act) -> None:
    """Read the first shard, with something done to the folder after the first run of bytes."""
    source = open_source(str(folder))
    plan = whole_shards(walk(source, DEFAULT_LIMITS), Formats(BLOCKS))[0]
    pending = [act]

    def tick(_: int) -> None:
        if pending:
            pending.pop()()

    ShardReader(source, CpuDevice(), digests=True, tick=tick).read(plan)


@pytest.mark.parametrize("change", [rewrite_in_place, replace_file, cut_short, Path.unlink])
def test_a_shard_that_changes_while_it_is_read_is_not_judged(copy: Path, change) -> None:
    path = shards_of(copy)[0]
    with pytest.raises(ReadError, match=rf"^{path.name}: (changed|ended at byte 50,000) while it was read"):
        read_one(copy, lambda: change(path))


@pytest.mark.parametrize("change", [rewrite_in_place, cut_short, Path.unlink])
def test_a_shard_that_changed_since_its_header_was_read_leaves_the_audit_incomplete(copy: Path, change) -> None:
    source = open_source(str(copy))
    inventory = walk(source, DEFAULT_LIMITS)
    path = shards_of(copy)[2]
    if change is rewrite_in_place:
        with path.open("r+b") as file:  # the header, whose bytes were judged
            file.seek(20)
            file.write(b"X")
    else:
        change(path)
    content = read_content(source, inventory, BLOCKS, Reading(depth="full"), mtp_layers=MTP)
    assert len(content.unread) == 1
    assert content.unread[0].startswith(f"{path.name}: ")
    assert {shard.file for shard in content.probes.shards} == {each.name for each in shards_of(copy)} - {path.name}


class Moving(Folder):
    """A folder in which somebody writes one of the shards all the time."""

    def __init__(self, root: Path, moving: str) -> None:
        super().__init__(str(root), symlinks="follow")
        self.moving, self.asked = moving, 0

    def stamp(self, path: str) -> str | None:
        self.asked += 1
        return f"{self.asked}" if path == self.moving else super().stamp(path)


def test_that_a_shard_changed_while_it_was_read_is_said_once(copy: Path) -> None:
    """Whoever reads its weights stumbles over it, and so does whoever reads its scales for weights elsewhere."""
    index = json.loads((copy / "model.safetensors.index.json").read_text())["weight_map"]
    moving = next(
        index[name + "_scale_inv"] for name in index if index.get(name + "_scale_inv", index[name]) != index[name]
    )
    report = conduct(Subject(source=Moving(copy, moving), reading=Reading(depth="full")), Terms())[1]
    assert report.verdict == "incomplete"
    assert len(report.incomplete) == len(set(report.incomplete)) == len(report.coverage.unread)
    assert any("changed while it was read" in line for line in report.incomplete)


def test_a_read_error_in_the_middle_is_incomplete_and_names_the_byte(copy: Path) -> None:
    """A shard on a device that fails: the kernel's fault injection needs root, so a file of /proc stands in."""
    source = open_source(str(copy))
    inventory = walk(source, DEFAULT_LIMITS)
    plan = whole_shards(inventory, Formats(BLOCKS))[0]
    with pytest.raises(ReadError, match=r"Bad address at byte|Input/output error at byte|ended at byte"):
        source.open(plan.file).read_into(plan.size - 5, memoryview(bytearray(10)))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a gigabyte of holes in some 40 shards: takes a moment to read."""
    changes = {
        "num_hidden_layers": 3, "first_k_dense_replace": 1, "n_routed_experts": 8, "n_group": 4, "topk_group": 2,
        "vocab_size": 4096, "hidden_size": 2048, "intermediate_size": 6144, "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "num_experts_per_tok": 2,
    }  # fmt: skip
    like = Like(config="deepseek-v3", changes=changes, limit=8_000_000, total="payload")
    folder = tmp_path_factory.mktemp("wide") / "wide"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LIKES, "wide", like)
        forge(folder, like="wide", sparse=True)
    return folder


def command(folder: Path, out: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "auditor", "audit", str(folder), "--depth", "full", "--jobs", "1", "--quiet",
        "--json", str(out), *more,
    ]  # fmt: skip


def interrupted(folder: Path, state: Path, out: Path, number: int) -> int:
    """Audit until three shards are durable, then send a signal; the exit code."""
    with subprocess.Popen(command(folder, out, "--resume", str(state)), stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 240
        while len(list(state.glob("*.msgpack"))) < 4 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(number)
        return process.wait(timeout=60)


def test_an_audit_killed_at_any_moment_resumes_to_the_same_report(wide: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert interrupted(wide, state, tmp_path / "no.json", signal.SIGKILL) == -signal.SIGKILL
    finished = len(list(state.glob("*.msgpack"))) - 1
    assert 3 <= finished < len(shards_of(wide))
    resumed = subprocess.run(command(wide, tmp_path / "b.json", "--resume", str(state)), timeout=300, check=False)
    report = AuditReport.model_validate_json((tmp_path / "b.json").read_bytes())
    whole = subprocess.run(command(wide, tmp_path / "a.json", "--seed", str(report.run.seed)), timeout=300, check=False)
    assert resumed.returncode == whole.returncode
    assert stable(report) == stable(AuditReport.model_validate_json((tmp_path / "a.json").read_bytes()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_audit_is_incomplete_and_keeps_what_was_finished(wide: Path, tmp_path: Path, number: int) -> None:
    out = tmp_path / "report.json"
    assert interrupted(wide, tmp_path / "state", out, number) == 3
    report = AuditReport.model_validate_json(out.read_bytes())
    assert report.verdict == "incomplete"
    assert any("cancelled after" in reason for reason in report.incomplete)
    assert 0 < report.coverage.payload_bytes_read < report.inventory.payload_bytes


def test_finished_shards_are_not_read_again(copy: Path, tmp_path: Path) -> None:
    seen = []
    reading = Reading(depth="full", resume=str(tmp_path / "state"), progress=lambda done, _: seen.append(done))
    first = audit(copy, depth="full", reading=reading)
    seen.clear()
    assert stable(audit(copy, depth="full", reading=reading)) == stable(first)
    assert seen == []


@pytest.mark.parametrize("change", ["touch", "digests", "damage", "depth"])
def test_finished_work_counts_only_for_what_it_was_done_for(copy: Path, tmp_path: Path, change: str) -> None:
    state = tmp_path / "state"
    reading = Reading(depth="full", resume=str(state), seed=1)
    audit(copy, depth="full", reading=reading)
    source = open_source(str(copy))
    plans = whole_shards(walk(source, DEFAULT_LIMITS), formats_of(copy))
    settings = {"depth": "full", "digests": True, "blocks": BLOCKS}
    folder = open_place(str(state), source, shared=False)
    assert all(State(folder, Seal(), source, settings).load(plan) is not None for plan in plans)
    if change == "touch":
        os.utime(copy / plans[0].file)
    elif change == "damage":
        for path in state.glob("*.msgpack"):
            path.write_bytes(path.read_bytes()[:-20])
    else:
        settings[change] = {"digests": False, "depth": "sample"}[change]
    loaded = [State(folder, Seal(), source, settings).load(plan) is not None for plan in plans]
    assert not loaded[0]
    # The first shard's weights may have scales in the second, so that one depends on it, and no further one.
    assert all(loaded[2:]) == (change == "touch")


def test_a_sample_of_another_seed_is_read_again_and_a_full_audit_is_not(copy: Path, tmp_path: Path) -> None:
    for depth, again in (("sample", False), ("full", True)):
        for seed in (1, 2):
            report = audit(copy, depth=depth, reading=Reading(depth=depth, resume=str(tmp_path / depth), seed=seed))
        assert (report.run.resumed_shards > 0) == again


def test_a_state_folder_inside_the_checkpoint_is_refused(copy: Path) -> None:
    with pytest.raises(UsageError, match="lies inside the checkpoint"):
        audit(copy, depth="full", reading=Reading(depth="full", resume=str(copy / "state")))
    assert not (copy / "state").exists()


@pytest.mark.parametrize("full", [False, True], ids=["filling", "full from the start"])
def test_work_that_cannot_be_saved_leaves_the_audit_incomplete_with_all_findings(
    copy: Path, tmp_path: Path, full: bool
) -> None:
    """A full disk: the state folder is on a file system that has no room left."""
    state = tmp_path / "small"
    state.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs", str(state)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        if full:
            (state / "other").write_bytes(bytes(16 << 10))
        report = audit(copy, depth="full", reading=Reading(depth="full", resume=str(state)))
    finally:
        subprocess.run(["umount", str(state)], check=True)
    assert report.verdict == "incomplete"
    assert sum("No space left on device" in reason for reason in report.incomplete) == 1
    assert report.coverage.payload_bytes_read == report.inventory.payload_bytes


def test_an_interrupted_spot_check_is_incomplete_and_made_up_for(copy: Path, tmp_path: Path, monkeypatch) -> None:
    reading = Reading(depth="full", resume=str(tmp_path / "state"))

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("auditor.content.spot.spot_checks", interrupt)
        report = audit(copy, depth="full", reading=reading)
    assert report.verdict == "incomplete"
    (reason,) = report.incomplete  # it is made beside the reading, which the interruption ends
    assert re.fullmatch(r"cancelled after \d of 5 shards' content", reason)
    resumed = audit(copy, depth="full", reading=reading)
    assert resumed.probes is not None
    assert resumed.probes.functional
    assert stable(resumed) == stable(audit(copy, depth="full", reading=Reading(depth="full", seed=resumed.run.seed)))


# --- what a person is told ---


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_cpu_that_auto_took_comes_with_the_reason(sound: Path, device: str) -> None:
    if not available().reason:
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "auditor", "audit", str(sound), "--depth", "full", "--device", device],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    told = " ".join(done.stdout.split())
    assert "on cpu" in told
    assert (f"on cpu ({available().reason})" in told) == (device == "auto")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "1"], "--seed is for reading tensor data: add --depth sample or --depth full"),
        (["--no-digests"], "--no-digests is for reading tensor data"),
        (["--depth", "full", "--sample-bytes", "1MB"], "--sample-bytes bounds a sample"),
        (["--depth", "sample", "--sample-bytes", "12 furlongs"], "is no size"),
        (["--depth", "sample", "--jobs", "0"], "needs a whole number from 1 on"),
        (["--depth", "deep"], "invalid choice"),
    ],
)
def test_options_that_cannot_be_are_one_line_with_the_mend(sound: Path, options: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "auditor", "audit", sound, *options], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("2GiB", 2 << 30), ("500MB", 500_000_000), ("1.5 kib", 1536), ("3g", 3_000_000_000)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_without_its_extra_a_depth_says_what_to_install(sound: Path) -> None:
    script = (
        "import sys; sys.modules['numba'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "from auditor.cli import main\n"
        f"sys.exit(main(['audit', {str(sound)!r}, '--depth', 'full']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "auditor: --depth full needs numba: pip install 'checkpoint-auditor[content]'\n"


def test_ue8m0_scales_of_the_v32_layout_are_powers_of_two_and_pass(tmp_path: Path) -> None:
    tiny = LIKES["tiny"]
    like = Like(config="deepseek-v3.2", changes=tiny.changes, limit=tiny.limit, total="payload")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LIKES, "tiny-v3.2", like)
        forge(tmp_path / "v32", like="tiny-v3.2")
    report = audit(tmp_path / "v32", depth="full")
    assert report.verdict == "passed", [finding.message for finding in report.findings]
    assert report.probes is not None
    scales = [group.scales for group in report.probes.groups if group.scales is not None]
    assert sum(each.values for each in scales) == sum(each.powers_of_two for each in scales)
    trips = [group.round_trip for group in report.probes.groups if group.round_trip is not None]
    assert sum(trip.changed + trip.undefined for trip in trips) == 0
