"""A baseline: what an earlier report has does not gate again, member by member, whatever shards are called."""

import hashlib
import json
import random
from pathlib import Path

import made_reports as made
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor import SourceError, UsageError, audit, cli
from auditor.forge import forge
from auditor.patterns import count, expand, expand_file, patterns
from auditor.reporting.saved import read_report
from auditor.verdict.baseline import Baseline
from auditor_schemas.finding import Finding
from auditor_schemas.policy import Limits, Policy
from auditor_schemas.report import AuditReport
from auditor_schemas.rule import Severity

INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("baselines")


def _checkpoint(folder: Path, name: str | None) -> Path:
    directory = folder / (name or "sound")
    if not directory.exists():
        forge(directory, like="tiny", sparse=True, break_name=name)
    return directory


def _saved(folder: Path, name: str | None, **changes: object) -> Path:
    report = audit(_checkpoint(folder, name))
    path = folder / f"{name}.{len(list(folder.iterdir()))}.json"
    path.write_text(report.model_copy(update=changes).model_dump_json())
    return path


def _root(report: AuditReport, rule: str) -> Finding:
    (finding,) = [each for each in report.findings if each.rule == rule and each.caused_by is None]
    return finding


def _renamed(directory: Path, seed: int) -> None:
    """Every shard under another name in another order, as another exporter would have it."""
    shards = sorted(directory.glob("*.safetensors"))
    order = list(range(len(shards)))
    random.Random(seed).shuffle(order)
    new = {
        shard.name: f"weights-{n + 1:04d}-of-{len(shards):04d}.safetensors"
        for shard, n in zip(shards, order, strict=True)
    }
    for shard in shards:
        shard.rename(directory / new[shard.name])
    index = json.loads((directory / INDEX).read_text())
    index["weight_map"] = {name: new.get(file, file) for name, file in reversed(index["weight_map"].items())}
    (directory / INDEX).write_text(json.dumps(index))


def _with(directory: Path, *names: str) -> Path:
    """A sound checkpoint with these tensors beside its own, in a shard that the index names."""
    forge(directory, like="tiny", sparse=True)
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    entries |= {name: {"dtype": "U8", "shape": [1], "data_offsets": [n, n + 1]} for n, name in enumerate(names)}
    header = json.dumps(entries, separators=(",", ":")).encode()
    (directory / "more.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(len(names)))
    index = json.loads((directory / INDEX).read_text())
    index["metadata"]["total_size"] += len(names)
    index["weight_map"] |= dict.fromkeys(names, "more.safetensors")
    (directory / INDEX).write_text(json.dumps(index))
    return directory


def test_what_the_baseline_has_as_a_warning_excuses_no_error(folder, tmp_path):
    mild = Policy(severity={"missing-block-scale": Severity.WARNING})
    checkpoint = _checkpoint(folder, "missing-block-scale")
    for policy, verdict in ((mild, "failed"), (Policy(), "passed")):
        (tmp_path / "baseline.json").write_text(audit(checkpoint, policy=policy).model_dump_json())
        report = audit(checkpoint, baseline=tmp_path / "baseline.json")
        assert (report.verdict, _root(report, "QNT101").severity) == (verdict, "error")


# --- names that look like marks ---


@pytest.mark.parametrize("name", ["model.layers.{0-3}.x", "model.layers.[{]0-3}.x", "*", "model.layers.*.x"])
def test_a_tensor_named_like_a_pattern_makes_no_other_tensor_known(tmp_path, name):
    named = audit(_with(tmp_path / "named", name), fail_on="warning")
    assert named.verdict == "failed"
    (tmp_path / "baseline.json").write_text(named.model_dump_json())
    again = audit(tmp_path / "named", fail_on="warning", baseline=tmp_path / "baseline.json")
    assert again.verdict == "passed"
    real = _with(tmp_path / "real", name, "model.layers.2.x")
    report = audit(real, fail_on="warning", baseline=tmp_path / "baseline.json")
    assert report.verdict == "failed"
    (new,) = [each for each in report.findings if each.status == "new" and each.severity == "warning"]
    assert new.uncovered in ((), ("model.layers.2.x",))


def test_a_report_from_before_braces_were_escaped_makes_no_other_tensor_known(tmp_path):
    report = json.loads(audit(_with(tmp_path / "named", "model.layers.{0-3}.x")).model_dump_json())
    for finding in report["findings"]:
        del finding["affected_files"]
        finding["affected"] = [each.replace("[{]", "{") for each in finding["affected"]]
    (tmp_path / "baseline.json").write_text(json.dumps(report))
    real = _with(tmp_path / "real", "model.layers.2.x")
    assert audit(real, fail_on="warning", baseline=tmp_path / "baseline.json").verdict == "failed"
    assert audit(tmp_path / "named", fail_on="warning", baseline=tmp_path / "baseline.json").verdict == "passed"


@pytest.mark.parametrize("name", ["x.safetensors", "config.json"])
def test_a_tensor_named_like_a_file_is_known_as_a_tensor(tmp_path, name):
    report = audit(_with(tmp_path / "one", name, "other"), fail_on="warning")
    (root,) = [each for each in report.findings if each.severity == "warning"]
    assert root.affected_files == 0
    (tmp_path / "baseline.json").write_text(report.model_dump_json())
    one = audit(_with(tmp_path / "fewer", name), fail_on="warning", baseline=tmp_path / "baseline.json")
    assert one.verdict == "passed"
    assert [each.count for each in one.gone] == [1]


# --- known ---


def test_finding_of_the_baseline_is_known_and_does_not_gate(folder):
    path = _saved(folder, "missing-block-scale")
    report = audit(_checkpoint(folder, "missing-block-scale"), baseline=path)
    assert report.verdict == "passed"
    assert _root(report, "QNT101").status == "known"
    assert {each.status for each in report.findings} == {"known"}
    assert report.baseline.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_finding_that_the_baseline_lacks_gates(folder):
    report = audit(_checkpoint(folder, "missing-block-scale"), baseline=_saved(folder, None))
    assert (report.verdict, _root(report, "QNT101").status) == ("failed", "new")
    assert _root(report, "QNT101").uncovered == ()


@pytest.mark.parametrize(
    "name",
    [
        "missing-block-scale", "missing-layer-scales", "transposed-router", "missing-metadata", "git-lfs-pointer",
        "truncated-shards", "header-not-utf8", "trailing-bytes", "config-wrong-head-count", "unexpected-tensors",
        "renamed-block-scales", "unindexed-tensors", "uncovered-bytes",
    ],
)  # fmt: skip
def test_renaming_and_reordering_shards_keeps_everything_known(name, tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name=name)
    first = audit(tmp_path / "checkpoint")
    (tmp_path / "baseline.json").write_text(first.model_dump_json())
    _renamed(tmp_path / "checkpoint", seed=7)
    second = audit(tmp_path / "checkpoint", baseline=tmp_path / "baseline.json", fail_on="warning")
    gating = [each for each in second.findings if each.status == "new" and each.severity != "info"]
    assert [(each.rule, each.message) for each in gating] == []
    assert second.verdict == "passed"
    assert {each.fingerprint for each in first.findings} == {each.fingerprint for each in second.findings}


def test_folded_finding_that_grew_is_new_and_names_what_is_new(folder, tmp_path):
    forge(tmp_path / "one", like="tiny", sparse=True, break_name="missing-block-scale")
    forge(tmp_path / "many", like="tiny", sparse=True, break_name="missing-layer-scales")
    (tmp_path / "baseline.json").write_text(audit(tmp_path / "one").model_dump_json())
    report = audit(tmp_path / "many", baseline=tmp_path / "baseline.json")
    finding = _root(report, "QNT101")
    known = "model.layers.2.mlp.experts.1.up_proj.weight"
    assert (report.verdict, finding.status) == ("failed", "new")
    uncovered = {name for pattern in finding.uncovered for name in expand(pattern)}
    affected = {name for pattern in finding.affected for name in expand(pattern)}
    assert affected - uncovered == {known}


def test_folded_finding_that_shrank_is_known_and_the_rest_is_gone(tmp_path):
    forge(tmp_path / "one", like="tiny", sparse=True, break_name="missing-block-scale")
    forge(tmp_path / "many", like="tiny", sparse=True, break_name="missing-layer-scales")
    many = audit(tmp_path / "many")
    (tmp_path / "baseline.json").write_text(many.model_dump_json())
    report = audit(tmp_path / "one", baseline=tmp_path / "baseline.json")
    assert (report.verdict, _root(report, "QNT101").status) == ("passed", "known")
    before = _root(many, "QNT101").count
    assert [(each.rule, each.count, each.of) for each in report.gone] == [("QNT101", before - 1, before)]


def test_what_is_gone_is_told(folder, capsys):
    path = _saved(folder, "missing-block-scale")
    assert cli.main(["audit", str(_checkpoint(folder, None)), "--baseline", str(path)]) == 0
    assert "GONE    QNT101 missing-block-scale  1 of 1: FP8 weight has no weight_scale_inv" in capsys.readouterr().out


def test_nothing_is_called_gone_that_was_not_looked_for(folder):
    report = audit(_checkpoint(folder, "config-not-json"), baseline=_saved(folder, "missing-norm"))
    assert report.gone == ()


def test_files_that_failed_alike_are_known_one_by_one(tmp_path):
    """Of five shards without metadata one is mended: the four others are known, under whatever name."""
    forge(tmp_path / "sound", like="tiny", sparse=True)
    forge(tmp_path / "broken", like="tiny", sparse=True, break_name="missing-metadata")
    (tmp_path / "baseline.json").write_text(audit(tmp_path / "broken").model_dump_json())
    shard = sorted((tmp_path / "broken").glob("*.safetensors"))[1].name
    (tmp_path / "broken" / shard).write_bytes((tmp_path / "sound" / shard).read_bytes())
    report = audit(tmp_path / "broken", baseline=tmp_path / "baseline.json", fail_on="warning")
    assert (report.verdict, _root(report, "HDR110").status, len(_root(report, "HDR110").members)) == (
        "passed",
        "known",
        4,
    )
    assert [(each.rule, each.count, each.of) for each in report.gone if each.rule == "HDR110"] == [("HDR110", 1, 5)]
    # The other way round one more file is new, and the finding says which.
    (tmp_path / "four.json").write_text(report.model_dump_json())
    forge(tmp_path / "again", like="tiny", sparse=True, break_name="missing-metadata")
    worse = audit(tmp_path / "again", baseline=tmp_path / "four.json", fail_on="warning")
    assert (worse.verdict, _root(worse, "HDR110").uncovered) == ("failed", (shard,))


def test_waived_finding_of_the_baseline_is_not_known_when_its_waiver_is_gone(folder, tmp_path):
    """Else a waiver would never end: the report made under it would excuse the finding for ever."""
    waivers = [{"rule": "QNT101", "tensor": "*", "reason": "x", "expires": "2999-01-01"}]
    policy = Policy.model_validate_json(json.dumps({"waivers": waivers}))
    waived = audit(_checkpoint(folder, "missing-block-scale"), policy=policy)
    assert _root(waived, "QNT101").status == "waived"
    (tmp_path / "waived.json").write_text(waived.model_dump_json())
    report = audit(_checkpoint(folder, "missing-block-scale"), baseline=tmp_path / "waived.json")
    assert (report.verdict, _root(report, "QNT101").status) == ("failed", "new")


def test_known_finding_stays_known_through_a_chain_of_baselines(folder, tmp_path):
    first = _saved(folder, "missing-block-scale")
    second = audit(_checkpoint(folder, "missing-block-scale"), baseline=first)
    (tmp_path / "second.json").write_text(second.model_dump_json())
    assert audit(_checkpoint(folder, "missing-block-scale"), baseline=tmp_path / "second.json").verdict == "passed"


def test_baseline_and_waivers_excuse_a_finding_together(tmp_path):
    forge(tmp_path / "one", like="tiny", sparse=True, break_name="missing-block-scale")
    forge(tmp_path / "many", like="tiny", sparse=True, break_name="missing-layer-scales")
    (tmp_path / "baseline.json").write_text(audit(tmp_path / "one").model_dump_json())
    others = ["model.layers.2.self_attn.*", "model.layers.2.mlp.[!e]*", "*.experts.[!1].*", "*.experts.1.[!u]*"]
    waivers = [{"rule": "QNT101", "tensor": glob, "reason": "x", "expires": "2999-01-01"} for glob in others]
    policy = Policy.model_validate_json(json.dumps({"waivers": waivers}))
    alone = audit(tmp_path / "many", policy=policy)
    assert _root(alone, "QNT101").uncovered == ("model.layers.2.mlp.experts.1.up_proj.weight",)
    together = audit(tmp_path / "many", policy=policy, baseline=tmp_path / "baseline.json")
    assert (together.verdict, _root(together, "QNT101").status) == ("passed", "waived")


# --- refused ---


def test_baseline_of_another_family_is_refused(folder, tmp_path, capsys):
    forge(tmp_path / "v32", like="v3.2", sparse=True)
    (tmp_path / "v32.json").write_text(audit(tmp_path / "v32").model_dump_json())
    assert cli.main(["audit", str(_checkpoint(folder, None)), "--baseline", str(tmp_path / "v32.json")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "is of family 'deepseek-v3.2', the checkpoint is deepseek-v3" in err


def test_baseline_of_less_depth_is_refused(folder):
    path = _saved(folder, None)
    with pytest.raises(UsageError, match="is of depth headers, this audit is of depth full"):
        audit(_checkpoint(folder, None), depth="full", baseline=path)


def test_incomplete_baseline_is_refused(folder, capsys):
    path = _saved(folder, "unsupported-model-type")
    assert cli.main(["audit", str(_checkpoint(folder, None)), "--baseline", str(path)]) == 2
    err = capsys.readouterr().err
    assert "is the report of an incomplete audit (model_type 'bailing_moe'" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"schema_version": "2"}', "\x00", '{"a":' * 2000])
def test_what_is_no_report_is_refused_in_one_line(folder, tmp_path, capsys, content):
    (tmp_path / "baseline.json").write_text(content)
    assert cli.main(["audit", str(_checkpoint(folder, None)), "--baseline", str(tmp_path / "baseline.json")]) == 2
    err = capsys.readouterr().err
    assert "not an audit report" in err
    assert err.count("\n") == 1


def _forged(report: AuditReport, finding: Finding) -> str:
    """A report of that finding alone that contradicts nothing: what can be checked of it is right."""
    return made.agreeing(report.model_copy(update={"findings": (finding,)})).model_dump_json()


def test_absent_baseline_is_refused(folder, tmp_path, capsys):
    assert cli.main(["audit", str(_checkpoint(folder, None)), "--baseline", str(tmp_path / "absent.json")]) == 2
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("pattern", ["model.layers.{0-999999999}.mlp.experts.{0-999999999}.x", "a.{0-99999999}"])
def test_hostile_pattern_of_a_baseline_is_bounded(folder, tmp_path, pattern):
    report = audit(_checkpoint(folder, "missing-block-scale"))
    forged = _root(report, "QNT101").model_copy(update={"affected": (pattern,), "fingerprint": "0" * 64})
    (tmp_path / "forged.json").write_text(_forged(report, forged))
    with pytest.raises(UsageError, match=r"limit 600,000 \(tensors\)"):
        audit(_checkpoint(folder, "missing-block-scale"), baseline=tmp_path / "forged.json")


def test_bound_of_a_baseline_is_the_policys_limit_of_tensors(folder):
    path = _saved(folder, "missing-layer-scales")
    with pytest.raises(UsageError, match="limit 10 "):
        audit(_checkpoint(folder, "missing-block-scale"), baseline=path, policy=Policy(limits=Limits(tensors=10)))


def test_hostile_text_of_a_baseline_is_escaped(folder, tmp_path, capsys):
    path = _saved(folder, None, family="\x1b[2J\u202e", verdict="passed")
    cli.main(["audit", str(_checkpoint(folder, None)), "--baseline", str(path)])
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\\x1b" in err


def test_hostile_message_of_a_baseline_is_escaped_where_it_is_gone(folder, tmp_path, capsys):
    report = audit(_checkpoint(folder, "missing-block-scale"))
    forged = _root(report, "QNT101").model_copy(update={"message": "\x1b[2J\u202ex"})
    (tmp_path / "forged.json").write_text(_forged(report, forged))
    assert cli.main(["audit", str(_checkpoint(folder, None)), "--baseline", str(tmp_path / "forged.json")]) == 0
    out = capsys.readouterr().out
    assert "GONE    QNT101 missing-block-scale" in out
    assert "\\x1b[2J\\u202ex" in out
    assert not {"\x1b", "\u202e"} & set(out)


def test_baseline_whose_slug_is_no_rules_is_refused(folder, tmp_path, capsys):
    report = audit(_checkpoint(folder, "missing-block-scale"))
    forged = _root(report, "QNT101").model_copy(update={"slug": "\x1b[2J"})
    (tmp_path / "forged.json").write_text(_forged(report, forged))
    assert cli.main(["audit", str(_checkpoint(folder, None)), "--baseline", str(tmp_path / "forged.json")]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\\x1b" in err


def test_empty_finding_of_a_forged_baseline_makes_nothing_known(folder, tmp_path):
    report = audit(_checkpoint(folder, "missing-block-scale"))
    empty = _root(report, "QNT101").model_copy(update={"affected": (), "members": (), "fingerprint": "0" * 64})
    (tmp_path / "forged.json").write_text(_forged(report, empty))
    assert audit(_checkpoint(folder, "missing-block-scale"), baseline=tmp_path / "forged.json").verdict == "failed"


def test_report_of_the_first_release_is_a_baseline(folder, tmp_path):
    """Reports without the members of their findings: tensors are in `affected`, and fingerprints are the same."""
    report = json.loads(audit(_checkpoint(folder, "missing-layer-scales")).model_dump_json())
    for key in ("unmet", "waivers", "gone"):
        del report[key]
    for finding in report["findings"]:
        del finding["members"], finding["uncovered"]
    (tmp_path / "old.json").write_text(json.dumps(report))
    assert audit(_checkpoint(folder, "missing-layer-scales"), baseline=tmp_path / "old.json").verdict == "passed"
    assert audit(_checkpoint(folder, "missing-block-scale"), baseline=tmp_path / "old.json").verdict == "passed"


def test_saved_report_that_is_none_is_one_line(tmp_path):
    (tmp_path / "x.json").write_text("nothing")
    with pytest.raises(SourceError, match="not an audit report: the document"):
        read_report(tmp_path / "x.json")


# --- patterns ---

_NUMBERS = st.integers(0, 12)
_NAMES = st.lists(
    st.one_of(
        st.builds("model.layers.{}.mlp.experts.{}.up_proj.weight".format, _NUMBERS, _NUMBERS),
        st.builds("model.layers.{}.x-{}".format, _NUMBERS, _NUMBERS),
        st.sampled_from(["lm_head.weight", "a.01.b", "a.{3}.b", "x{0-3}y", "1", "0.1"]),
    ),
    max_size=60,
)


@given(_NAMES)
def test_patterns_expand_to_exactly_the_names_they_were_made_of(names):
    found = patterns(names)
    expanded = [name for pattern in found for name in expand(pattern)]
    assert sorted(expanded) == sorted(set(names))
    assert sum(map(count, found)) == len(set(names))


@pytest.mark.parametrize(
    ("pattern", "covers"),
    [
        ("a.{2-4}.b", ["a.2.b", "a.3.b", "a.4.b"]),
        ("a.{4-2}.b", []),
        ("a.{02-4}.b", ["a.{02-4}.b"]),
        ("a{2-4}b", ["a{2-4}b"]),
        (f"a.{{0-{'9' * 5000}}}", [f"a.{{0-{'9' * 5000}}}"]),
        ("{0-1}.{0-1}", ["0.0", "0.1", "1.0", "1.1"]),
    ],
)
def test_only_a_run_as_reports_write_it_is_one(pattern, covers):
    assert list(expand(pattern)) == covers
    assert count(pattern) == len(covers)


def test_file_patterns_keep_their_zeros_and_are_bounded():
    assert expand_file("model-{00009-00011}-of-000163.safetensors", 10) == (
        "model-00009-of-000163.safetensors", "model-00010-of-000163.safetensors", "model-00011-of-000163.safetensors",
    )  # fmt: skip
    assert expand_file("model.safetensors", 10) == ("model.safetensors",)
    assert len(expand_file("model-{000000000-999999999}-of-1.safetensors", 7)) == 7


def test_baseline_knows_a_finding_by_its_fingerprint_alone(folder):
    report = audit(_checkpoint(folder, "config-wrong-head-count"))
    baseline = Baseline(report.findings, name="x", family=None, sha256=None, most=0)
    from auditor.verdict.attribute import Attributed

    assert all(baseline.unknown(Attributed(each, ())) == set() for each in report.findings)
