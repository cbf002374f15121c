"""One root cause is one finding: consequences point at their cause, and nothing is dropped."""

import json
import time
from datetime import date
from pathlib import Path

import pytest

from auditor import audit
from auditor.forge import forge
from auditor.format.entries import Shard, TensorHeader
from auditor.inventory.facts import Inventory
from auditor.patterns import count
from auditor.verdict.attribute import MOST, MOST_FINDINGS, attribute, bound_failures, trace
from auditor.verdict.baseline import Baseline
from auditor.verdict.judge import judge
from auditor.verdict.waive import Files, Waivers
from auditor_schemas.policy import Policy, WaiverRule
from auditor_schemas.rule import AnyMissing, Excess, Failure, File, RoundTrip, Rule, Scope, Severity

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


def test_failures_beyond_what_is_held_one_by_one_are_in_the_same_findings():
    rule = _rule("NAM102", Scope.TENSOR)
    alike = [rule.failure("unexpected", tensor=f"t.{n}") for n in range(1_000)]
    held = bound_failures(iter(alike), 100)
    assert len(held) == 101
    (finding,) = attribute(held, NOTHING)
    assert (finding.count, finding.affected) == (len(alike), (f"t.{{0-{len(alike) - 1}}}",))


def test_of_kinds_beyond_what_is_held_one_by_one_the_number_is_told():
    rule = _rule("IDX108", Scope.TENSOR)
    each_its_own = [rule.failure(f"is in {n}", tensor=f"t{n}q", file=f"{n}") for n in range(12_000)]
    held = bound_failures(each_its_own, 100)
    assert len(held) == 100 + MOST_FINDINGS + 1
    findings = attribute(held, NOTHING)
    assert sum(each.count for each in findings) == len(each_its_own)
    others = len(each_its_own) - MOST_FINDINGS - 1
    told = [each.message for each in findings if "; beyond" in each.message]
    assert told == [f"is in {MOST_FINDINGS}; beyond {MOST_FINDINGS:,} findings of this rule, {others:,} others"]


def test_what_is_held_as_one_is_explained_only_where_each_part_is():
    scale, missing = _rule("QNT101", Scope.TENSOR), _rule("NAM101", Scope.FILE)
    failures = [scale.failure("no scale", tensor=f"w{n}", blames=(f"s{n}",)) for n in range(102)]
    failures[-1] = scale.failure("no scale", tensor="w")
    root = missing.failure("gone", file="x", takes=tuple(f"s{n}" for n in range(102)))
    findings = attribute([root, *bound_failures(failures, 100)], NOTHING)
    assert [each.count for each in findings if each.caused_by is None and each.rule == "QNT101"] == [2]


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


def _sum(off: int, parts: dict[str, int], severity: Severity = Severity.ERROR, unsized: frozenset[str] = frozenset()):
    rule = _rule("IDX111", Scope.COUNT, severity)
    return rule.failure("sum", field="total", excess=(Excess(0, {}), Excess(off, parts, unsized)))


def _cause_of_sum(*failures: Failure) -> str | None:
    findings = attribute(failures, NOTHING)
    by_print = {each.fingerprint: each.rule for each in findings}
    (found,) = [each.caused_by for each in findings if each.rule == "IDX111"]
    return by_print.get(found)


def test_a_sum_follows_from_the_root_whose_tensors_make_the_difference():
    missing, extra = _rule("NAM101", Scope.TENSOR), _rule("NAM102", Scope.TENSOR)
    one, other = missing.failure("missing", tensor="a"), extra.failure("extra", tensor="b")
    parts = {"a": -8, "b": 4}
    assert _cause_of_sum(one, other, _sum(-8, parts)) == "NAM101"
    assert _cause_of_sum(one, other, _sum(4, parts)) == "NAM102"
    assert _cause_of_sum(one, other, _sum(-4, parts)) == "NAM101"  # both together
    assert _cause_of_sum(one, other, _sum(-7, parts)) is None
    assert _cause_of_sum(one, _sum(4, parts)) is None


def test_a_sum_follows_from_none_that_is_milder_nor_from_one_that_names_no_tensor():
    mild, grave = _rule("NAM102", Scope.TENSOR, Severity.WARNING), _rule("HDR110", Scope.FILE)
    assert _cause_of_sum(mild.failure("extra", tensor="a"), _sum(4, {"a": 4})) is None
    assert _cause_of_sum(mild.failure("extra", tensor="a"), _sum(4, {"a": 4}, Severity.WARNING)) == "NAM102"
    assert _cause_of_sum(grave.failure("no format", file="x"), _sum(4, {"a": 4})) is None
    both = mild.failure("extra", tensor="a"), _rule("NAM101", Scope.TENSOR).failure("missing", tensor="b")
    assert _cause_of_sum(*both, _sum(-4, {"a": 4, "b": -8})) is None


def test_a_sum_follows_through_a_consequence_from_its_root():
    shard, missing = _rule("IDX103", Scope.FILE), _rule("NAM101", Scope.TENSOR)
    failures = shard.failure("gone", file="x", takes=("a",)), missing.failure("missing", tensor="a")
    assert _cause_of_sum(*failures, _sum(-8, {"a": -8})) == "IDX103"
    nowhere = _rule("HDR101", Scope.FILE).failure("unread", file="x", takes=(AnyMissing(),))
    assert _cause_of_sum(nowhere, _sum(-8, {"a": -8})) == "HDR101"


def test_tensors_of_unknown_size_make_a_sum_too_small_and_never_too_large():
    shard = _rule("IDX103", Scope.FILE).failure("gone", file="x", takes=("a", "b"))
    assert _cause_of_sum(shard, _sum(-9, {"b": -8}, unsized=frozenset("a"))) == "IDX103"
    assert _cause_of_sum(shard, _sum(-7, {"b": -8}, unsized=frozenset("a"))) is None


def test_a_tensor_that_fails_twice_is_counted_once():
    shape, dtype = _rule("SHP101", Scope.TENSOR), _rule("SHP102", Scope.TENSOR)
    failures = [shape.failure("shape", tensor="a"), dtype.failure("dtype", tensor="a"), dtype.failure("x", tensor="b")]
    assert _cause_of_sum(*failures, _sum(12, {"a": 8, "b": 4})) in ("SHP101", "SHP102")


STRICT = Policy(severity={"wrong-total-size": Severity.ERROR})


def _off_by(directory: Path, name: str | None, off: int) -> Path:
    """A checkpoint with one defect, whose total_size is wrong by as much beside it."""
    forge(directory, like="tiny", sparse=True, break_name=name)
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    index["metadata"]["total_size"] += off
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory


@pytest.mark.parametrize("name", ["unexpected-tensors", "stray-shard", "missing-metadata", "foreign-norm-dtype"])
def test_a_milder_defect_beside_a_wrong_sum_does_not_turn_failed_into_passed(tmp_path, name):
    report = audit(_off_by(tmp_path / "c", name, 17), policy=STRICT)
    assert report.verdict == "failed"
    assert [each.severity for each in report.findings if each.rule == "IDX111"] == ["error"]


def test_a_waived_defect_beside_a_wrong_sum_does_not_pass_it(tmp_path):
    waiver = WaiverRule(rule="NAM101", tensor="*", reason="x", expires=date(2999, 1, 1))
    strict = STRICT.model_copy(update={"waivers": (waiver,)})
    assert audit(_off_by(tmp_path / "off", "missing-norm", 17), policy=strict).verdict == "failed"
    assert audit(_off_by(tmp_path / "known", "missing-norm", 0), policy=strict).verdict == "passed"


def test_a_sum_that_followed_from_a_defect_of_the_baseline_is_not_known_where_it_stands_alone(tmp_path):
    lost = json.loads((_off_by(tmp_path / "sound", None, 0) / "model.safetensors.index.json").read_text())
    now = json.loads((_off_by(tmp_path / "counted", "missing-norm", 0) / "model.safetensors.index.json").read_text())
    was_there = lost["metadata"]["total_size"] - now["metadata"]["total_size"]
    before = _off_by(tmp_path / "before", "missing-norm", was_there)
    report = audit(before, policy=STRICT)
    assert [each.severity for each in report.findings if each.rule == "IDX111"] == ["info"]
    (tmp_path / "baseline.json").write_text(report.model_dump_json())
    assert audit(before, policy=STRICT, baseline=tmp_path / "baseline.json").verdict == "passed"
    after = _off_by(tmp_path / "after", "missing-norm", 17)
    assert audit(after, policy=STRICT, baseline=tmp_path / "baseline.json").verdict == "failed"


def test_what_a_name_or_a_shape_is_wrong_in_does_not_explain_a_value():
    shape, value = _rule("SHP101", Scope.TENSOR), _rule("VAL102", Scope.TENSOR)
    failures = [shape.failure("shape", tensor="a", takes=("a", "a_scale_inv")), value.failure("NaN", tensor="a")]
    assert [each.caused_by for each in attribute(failures, NOTHING)] == [None, None]
    zeros = _rule("VAL117", Scope.FILE).failure("all zero", file="x", tensors=("a",), takes=("a",))
    found = attribute([zeros, value.failure("constant", tensor="a")], NOTHING)
    assert [each.rule for each in found if each.caused_by is not None] == ["VAL102"]


def test_failures_about_tensors_and_about_a_file_alone_are_no_one_finding():
    """Whoever waives all the tensors of a finding has waived no file that it is about beside them."""
    rule = _rule("HDR112", Scope.FILE)
    failures = [
        rule.failure("between a and b", file="one", tensors=("a",), fold="same"),
        rule.failure("at the end", file="two", fold="same"),
    ]
    assert [each.affected for each in attribute(failures, NOTHING)] == [("a",), ()]


# --- what a file makes long ---


def test_of_more_than_a_report_lists_the_rest_is_counted_and_the_finding_excused_by_nothing(tmp_path):
    rule = _rule("NAM102", Scope.TENSOR)
    failures = [rule.failure("extra", tensor=f"x{n}.w") for n in range(MOST + 7)]
    (found,) = trace(failures, NOTHING)
    assert (len(found.finding.affected), found.finding.more, found.finding.count) == (MOST, 7, MOST + 7)
    waiver = WaiverRule(rule="NAM102", tensor="*", reason="x", expires=date(2999, 1, 1))
    baseline = Baseline([found.finding], name="x", family=None, sha256=None, most=2 * MOST)
    judged = judge(
        [found], [], waivers=Waivers(((waiver, rule),), date(2026, 1, 1)), baseline=baseline, files=Files([])
    )
    assert [each.status for each in judged.findings] == ["new"]
    assert [each.state for each in judged.waivers] == ["partial"]


def test_a_rule_has_so_many_findings_and_one_more_for_the_rest():
    rule, shard = _rule("IDX108", Scope.TENSOR), _rule("IDX103", Scope.FILE)
    total = MOST_FINDINGS + 100
    failures = [rule.failure(f"the index names {n}", tensor=f"x{n}.w") for n in range(total)]
    roots = attribute(failures, NOTHING)
    assert len(roots) == MOST_FINDINGS + 1
    assert sum(each.count for each in roots) == sum(len(each.affected) for each in roots) == total
    (rest,) = [each for each in roots if each.count > 1]
    assert rest.message.endswith("; beyond 10,000 findings of this rule, 99 others")
    lost = shard.failure("gone", file="x", takes=tuple(f"x{n}.w" for n in range(total)))
    root, *consequences = attribute([lost, *failures], NOTHING)
    assert (root.rule, len(consequences)) == ("IDX103", MOST_FINDINGS + 1)
    assert {each.caused_by for each in consequences} == {root.fingerprint}


def test_what_a_hundred_thousand_failures_of_one_file_are_about_is_spelled_out_once():
    header = TensorHeader("BF16", (1,), (0, 2))
    held = Shard("x", 10, "read", tensors={f"x{n}": header for n in range(20_000)})
    rule = _rule("HDR105", Scope.FILE)
    begin = time.monotonic()
    failures = [rule.failure("entry", file="x", span=(n, n + 1), fold="entry") for n in range(20_000)]
    (finding,) = attribute(failures, Inventory((held,)))
    assert finding.count == 20_000
    assert time.monotonic() - begin < 20


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
