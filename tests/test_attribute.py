"""One root cause is one finding: consequences point at their cause, and nothing is dropped."""

import json
from pathlib import Path

import pytest

from auditor import audit
from auditor.attribute import attribute
from auditor.facts import Inventory
from auditor.forge import forge
from auditor.names import count
from auditor_schemas.rule import AnyMissing, File, RoundTrip, Rule, Scope, Severity

NOTHING = Inventory(())


def _rule(id_: str, scope: Scope, severity: Severity = Severity.ERROR) -> Rule:
    return Rule(id=id_, slug=id_.lower(), title="", severity=severity, scope=scope, examines="tensors")


def _report(tmp_path: Path, name: str, like: str = "tiny"):
    forge(tmp_path / "checkpoint", like=like, sparse=True, break_name=name)
    return audit(tmp_path / "checkpoint")


def test_alike_failures_fold_into_one_finding_with_every_tensor():
    rule = _rule("SHP101", Scope.TENSOR)
    names = [f"model.layers.3.mlp.experts.{expert}.up_proj.weight" for expert in range(256)]
    (finding,) = attribute([rule.failure("shape is (1,), needs (2,)", tensor=name) for name in names], NOTHING)
    assert finding.count == 256
    assert finding.affected == ("model.layers.3.mlp.experts.{0-255}.up_proj.weight",)


def test_a_failure_whose_tensors_a_wider_one_takes_is_its_consequence():
    shard, tensor = _rule("IDX103", Scope.FILE), _rule("NAM101", Scope.TENSOR)
    root, consequence = attribute(
        [tensor.failure("missing", tensor="a"), shard.failure("gone", file="x", tensors=("a", "b"), takes=("a", "b"))],
        NOTHING,
    )
    assert (root.rule, root.caused_by) == ("IDX103", None)
    assert (consequence.rule, consequence.severity, consequence.caused_by) == ("NAM101", "info", root.fingerprint)


def test_a_failure_that_is_only_partly_explained_stays_a_finding():
    shard, tensor = _rule("IDX103", Scope.FILE), _rule("NAM101", Scope.TENSOR)
    failures = [
        tensor.failure("missing", tensor="a"),
        tensor.failure("missing", tensor="c"),
        shard.failure("gone", file="x", tensors=("a",), takes=("a",)),
    ]
    findings = attribute(failures, NOTHING)
    assert [(each.rule, each.affected) for each in findings if each.caused_by is None] == [
        ("IDX103", ("a",)),
        ("NAM101", ("c",)),
    ]


def test_a_warning_never_explains_an_error():
    mild, grave = _rule("IDX105", Scope.FILE, Severity.WARNING), _rule("NAM101", Scope.TENSOR)
    findings = attribute([mild.failure("stray", file="x", takes=("a",)), grave.failure("missing", tensor="a")], NOTHING)
    assert all(each.caused_by is None for each in findings)


@pytest.mark.parametrize("mark", [AnyMissing(), File("config.json"), RoundTrip("weight")])
@pytest.mark.parametrize("name", ["*", "file:config.json", "blocks:weight", "config.json", "weight"])
def test_no_tensor_name_stands_for_a_file_a_round_trip_or_whatever_is_missing(name, mark):
    wide, narrow = _rule("QNT108", Scope.MODULE), _rule("VAL109", Scope.TENSOR)
    failures = [wide.failure("one", tensor=name, takes=(name,)), narrow.failure("other", tensor="b", blames=(mark,))]
    assert [each.caused_by for each in attribute(failures, NOTHING)] == [None, None]
    taken = [wide.failure("one", tensor="c", takes=(mark,)), narrow.failure("other", tensor=name, blames=(name,))]
    explained = [each.rule for each in attribute(taken, NOTHING) if each.caused_by is not None]
    assert explained == (["VAL109"] if isinstance(mark, AnyMissing) else [])


def test_two_defects_of_one_tensor_are_two_findings():
    shape, dtype = _rule("SHP101", Scope.TENSOR), _rule("SHP102", Scope.TENSOR)
    findings = attribute([shape.failure("shape", tensor="a"), dtype.failure("dtype", tensor="a")], NOTHING)
    assert [each.caused_by for each in findings] == [None, None]


def test_a_wrong_sum_alone_is_a_finding_of_its_own():
    sums = _rule("CNT101", Scope.COUNT)
    (finding,) = attribute([sums.failure("router: 3, needs 4", field="router")], NOTHING)
    assert (finding.severity, finding.caused_by) == ("error", None)


def test_a_missing_shard_lists_all_that_it_took_along(tmp_path):
    report = _report(tmp_path, "missing-shard", like="v3")
    (root,) = [each for each in report.findings if each.severity == "error"]
    index = json.loads((tmp_path / "checkpoint" / "model.safetensors.index.json").read_text())
    lost = sum(path == root.location.file for path in index["weight_map"].values())
    assert sum(map(count, root.affected)) == lost > 500
    consequences = [each for each in report.findings if each.caused_by == root.fingerprint]
    assert {each.rule for each in consequences} >= {"NAM101", "CNT101"}


def test_no_failing_tensor_is_dropped(tmp_path):
    report = _report(tmp_path, "renamed-block-scales", like="v3")
    (root,) = [each for each in report.findings if each.severity == "error"]
    assert root.count == sum(map(count, root.affected)) == 45_808


@pytest.mark.parametrize("name", ["missing-block-scale", "transposed-router", "missing-layer", "bf16-router-bias"])
def test_renaming_shards_keeps_the_fingerprints_of_findings(name, tmp_path):
    first = _report(tmp_path, name)
    directory = tmp_path / "checkpoint"
    index_path = directory / "model.safetensors.index.json"
    text = index_path.read_text()
    for shard in directory.glob("*.safetensors"):
        renamed = shard.name.replace("model-", "weights-")
        shard.rename(directory / renamed)
        text = text.replace(shard.name, renamed)
    index_path.write_text(text)
    second = audit(directory)
    assert {each.fingerprint for each in first.findings} == {each.fingerprint for each in second.findings}
    assert first.source.fingerprint != second.source.fingerprint


def test_source_fingerprint_is_the_same_for_a_mirror_and_silent_about_payload(tmp_path):
    forge(tmp_path / "real", like="tiny", seed=1)
    forge(tmp_path / "other", like="tiny", seed=2)
    forge(tmp_path / "sparse", like="tiny", sparse=True)
    prints = {audit(tmp_path / name).source.fingerprint for name in ("real", "other", "sparse")}
    assert len(prints) == 1
