"""The pipeline on what single breaks do not reach: policies, several defects at once, and what was not looked at."""

import gc
import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from auditor import audit, cli
from auditor.forge import forge, plan_of
from auditor.forge.write import write
from auditor_schemas.policy import Limits, Policy


@pytest.fixture
def checkpoint(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    return tmp_path / "checkpoint"


COPIES = (".embed_tokens.weight", ".shared_head.head.weight")


def _roots(report, severity="error"):
    return sorted({each.rule for each in report.findings if each.caused_by is None and each.severity == severity})


def _outcome(report, rule):
    return next(each for each in report.outcomes if each.rule == rule)


def _move_out(directory: Path, name: str) -> None:
    outside = directory.parent / "elsewhere"
    outside.mkdir(exist_ok=True)
    (directory / name).rename(outside / name)
    (directory / name).symlink_to(outside / name)


def test_forbidden_symlink_fails_the_audit_as_one_finding_and_is_not_read(checkpoint):
    name = sorted(path.name for path in checkpoint.glob("*.safetensors"))[1]
    _move_out(checkpoint, name)
    followed = audit(checkpoint)
    assert (followed.verdict, _roots(followed, "info").count("HDR112")) == ("passed", 1)
    report = audit(checkpoint, policy=Policy(symlinks="inside"))
    assert report.verdict == "failed"
    assert _roots(report) == ["HDR113"]
    assert report.coverage.headers_read == 4


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_forbidden_symlink_of_config_or_index_is_an_error(checkpoint, name):
    _move_out(checkpoint, name)
    assert audit(checkpoint).verdict == "passed"
    report = audit(checkpoint, policy=Policy(symlinks="inside"))
    assert report.verdict == "failed"
    assert "HDR113" in _roots(report)


def test_hub_cache_symlinks_are_inside(tmp_path):
    revision = tmp_path / "models--org--name" / "snapshots" / ("abc1" * 10)
    blobs = tmp_path / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    revision.parent.mkdir()
    forge(revision, like="tiny", sparse=True)
    for position, path in enumerate(sorted(revision.iterdir())):
        path.rename(blobs / str(position))
        path.symlink_to(Path("../../blobs") / str(position))
    report = audit(revision, policy=Policy(symlinks="inside"))
    assert report.verdict == "passed"
    assert report.source.revision == "abc1" * 10
    assert _roots(report, "info").count("HDR112") == 0


def test_missing_index_and_a_broken_header_are_two_findings(checkpoint):
    (checkpoint / "model.safetensors.index.json").unlink()
    shard = sorted(checkpoint.glob("*.safetensors"))[2]
    shard.write_bytes(b"<html>not here</html>")
    assert _roots(audit(checkpoint)) == ["HDR101", "IDX101"]


def test_several_independent_defects_are_each_a_finding(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    config["architectures"] = ["LlamaForCausalLM"]
    (checkpoint / "config.json").write_text(json.dumps(config))
    shards = sorted(checkpoint.glob("*.safetensors"))
    shards[0].unlink()
    with open(shards[3], "ab") as file:
        file.write(b"tail")
    with open(shards[4], "r+b") as file:
        file.truncate(shards[4].stat().st_size - 8)
    report = audit(checkpoint)
    assert _roots(report) == ["HDR106", "HDR107", "IDX103"]
    assert _roots(report, "warning") == ["CFG108"]


def test_of_two_mtp_modules_one_without_copies_is_worth_a_note_alone(tmp_path):
    plan = plan_of("tiny")
    twin = [
        replace(tensor, name=tensor.name.replace("layers.4.", "layers.5."))
        for shard in plan.shards
        for tensor in shard.tensors
        if tensor.name.startswith("model.layers.4.")
    ]
    plan.shards[-1].tensors.extend(each for each in twin if not each.name.endswith(COPIES))
    plan.config["num_nextn_predict_layers"] = 2
    (tmp_path / "checkpoint").mkdir()
    write(plan, tmp_path / "checkpoint", strips=None)
    report = audit(tmp_path / "checkpoint")
    assert _roots(report) == []
    assert "MTP104" in _roots(report, "info")


def test_unread_config_is_a_finding_and_its_rules_were_not_applicable(checkpoint):
    report = audit(checkpoint, policy=Policy(limits=Limits(config_bytes=100)))
    assert report.verdict == "incomplete"
    assert _roots(report) == ["HDR111"]
    assert {_outcome(report, rule).outcome for rule in ("CFG101", "CFG102", "CFG103", "NAM101", "QNT102")} == {
        "not_applicable"
    }
    assert "config.json" in (_outcome(report, "NAM101").reason or "")


def test_rules_that_could_not_look_have_not_passed(tmp_path):
    forge(tmp_path / "no-index", like="tiny", sparse=True, break_name="missing-index")
    report = audit(tmp_path / "no-index")
    assert _outcome(report, "IDX102").outcome == "not_applicable"
    assert _outcome(report, "IDX103").reason == "the checkpoint has no index"
    forge(tmp_path / "fields", like="tiny", sparse=True, break_name="config-negative-field")
    report = audit(tmp_path / "fields")
    assert _outcome(report, "CFG103").outcome == "failed"
    assert _outcome(report, "CFG104").outcome == "not_applicable"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"shards": 3}, "beyond the limit of 3"),
        ({"files": 2}, "more than 2 entries"),
        ({"tensors_per_shard": 10}, "tensors_per_shard"),
        ({"tensors": 100}, "limit 100 (tensors)"),
        ({"name_bytes": 20}, "name_bytes"),
        ({"index_bytes": 50}, "index_bytes"),
        ({"layers": 2}, "limit 2 (layers)"),
        ({"experts": 4}, "limit 4 (experts)"),
        ({"expected_tensors": 10}, "expected_tensors"),
    ],
)
def test_each_limit_makes_the_audit_incomplete_and_is_named(checkpoint, limits, reason):
    report = audit(checkpoint, policy=Policy(limits=Limits(**limits)))
    assert report.verdict == "incomplete"
    assert any(reason in each for each in report.incomplete), report.incomplete


def test_findings_are_the_same_in_every_run(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name="unindexed-tensors")
    first, second = audit(tmp_path / "checkpoint"), audit(tmp_path / "checkpoint")
    assert first.findings == second.findings


def test_audits_at_once_in_one_process_give_what_each_gives_alone(tmp_path):
    breaks = (None, "unindexed-tensors", "missing-shard", "config-one-layer-fewer", "prefixed-names", "missing-expert")
    for number, name in enumerate(breaks):
        forge(tmp_path / str(number), like="tiny", sparse=True, break_name=name)
    policy = Policy(severity={"NAM101": "warning"})

    def audited(number):
        report = audit(tmp_path / str(number), policy=policy if number % 2 else None)
        return report.model_dump(exclude={"run"})

    alone = [audited(number) for number in range(len(breaks))]
    with ThreadPoolExecutor(len(breaks)) as threads:
        for _ in range(5):
            assert list(threads.map(audited, range(len(breaks)))) == alone


def test_an_audit_leaves_the_process_as_it_was(checkpoint):
    def state():
        handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGABRT)]
        return gc.isenabled(), dict(os.environ), handlers, sys.stdout.errors

    collected = []

    def collector(phase, _):
        collected.append(gc.isenabled())

    before = state()
    gc.callbacks.append(collector)
    try:
        audit(checkpoint, progress=lambda *_: gc.collect())
        assert cli.main(["audit", str(checkpoint), "--quiet"]) == 0
        assert cli.main(["diff", str(checkpoint), str(checkpoint)]) == 0
    finally:
        gc.callbacks.remove(collector)
    assert state() == before
    assert all(collected)


def test_audits_leave_no_file_open(checkpoint):
    audit(checkpoint)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        audit(checkpoint)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_index_that_names_as_many_files_as_tensors_is_judged_in_linear_time(checkpoint):
    """Quadratic work on 60,000 files would take minutes, and the test its patience."""
    index = json.loads((checkpoint / "model.safetensors.index.json").read_text())
    index["weight_map"].update({f"x.{position}": f"../{position}" for position in range(60_000)})
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    report = audit(checkpoint)
    assert report.verdict == "failed"
    assert "IDX104" in _roots(report)
