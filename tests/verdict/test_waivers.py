"""Waivers: they excuse what they cover as a whole, until a date, for a reason, and none is silent."""

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from auditor import audit, cli
from auditor.forge import forge
from auditor.globs import literal_start
from auditor.inventory.facts import Inventory
from auditor.verdict.attribute import trace
from auditor.verdict.judge import judge
from auditor.verdict.waive import Files, Waivers
from auditor_schemas.finding import Finding, WaiverUse
from auditor_schemas.policy import Policy, WaiverRule
from auditor_schemas.report import AuditReport
from auditor_schemas.rule import Rule, Scope, Severity

TODAY = datetime.now(UTC).date()
FAR = date(2999, 1, 31)


def _waiver(rule: str, **changes: object) -> WaiverRule:
    return WaiverRule.model_validate({"rule": rule, "reason": "known and harmless", "expires": FAR, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("waivers")


def _checkpoint(folder: Path, name: str) -> Path:
    directory = folder / name
    if not directory.exists():
        forge(directory, like="tiny", sparse=True, break_name=name)
    return directory


def _audit(folder: Path, name: str, *waivers: WaiverRule, **options: object) -> AuditReport:
    return audit(_checkpoint(folder, name), policy=Policy(waivers=waivers), **options)  # type: ignore[arg-type]


def _root(report: AuditReport, rule: str) -> Finding:
    (finding,) = [each for each in report.findings if each.rule == rule and each.caused_by is None]
    return finding


def _states(report: AuditReport) -> list[str]:
    return [each.state for each in report.waivers]


def test_waived_finding_does_not_gate_and_stays_in_the_report_with_its_reason(folder):
    report = _audit(folder, "missing-block-scale", _waiver("QNT101", tensor="model.layers.*", owner="infra"))
    finding = _root(report, "QNT101")
    assert report.verdict == "passed"
    assert (finding.status, finding.severity) == ("waived", "error")
    assert (finding.waiver.reason, finding.waiver.owner, finding.waiver.expires) == ("known and harmless", "infra", FAR)
    assert _states(report) == ["used"]


def test_rule_may_be_named_by_its_slug(folder):
    report = _audit(folder, "missing-block-scale", _waiver("missing-block-scale", tensor="*"))
    assert report.verdict == "passed"


def test_what_a_waived_root_explains_is_waived_with_it(folder):
    report = _audit(folder, "missing-shard", _waiver("IDX103", file="model-*.safetensors"))
    root = _root(report, "IDX103")
    consequences = [each for each in report.findings if each.caused_by == root.fingerprint]
    assert report.verdict == "passed"
    assert {each.rule for each in consequences} >= {"NAM101"}
    assert {each.status for each in consequences} == {"waived"}
    assert all(each.waiver == root.waiver for each in consequences)


def test_waiver_of_another_rule_or_tensor_waives_nothing_and_is_reported_unused(folder):
    report = _audit(
        folder, "missing-block-scale", _waiver("QNT102", tensor="*"), _waiver("QNT101", tensor="model.layers.99.*")
    )
    assert report.verdict == "failed"
    assert _states(report) == ["unused", "unused"]


def test_unused_waiver_of_a_sound_checkpoint_warns_and_does_not_gate(tmp_path, capsys):
    forge(tmp_path / "sound", like="tiny", sparse=True)
    (tmp_path / "auditor.toml").write_text(
        '[[waivers]]\nrule = "QNT101"\ntensor = "model.layers.3.*"\nreason = "x"\nexpires = 2999-01-01\n'
    )
    command = ["audit", str(tmp_path / "sound"), "--policy", str(tmp_path / "auditor.toml"), "--fail-on", "warning"]
    assert cli.main(command) == 0
    assert "WAIVER  QNT101 missing-block-scale  tensor model.layers.3.*: matches nothing" in capsys.readouterr().out
    assert cli.main([*command, "--quiet"]) == 0
    assert "1 waiver unused" in capsys.readouterr().out


def test_waiver_of_a_rule_that_did_not_run_is_not_called_unused(folder):
    report = _audit(folder, "config-not-json", _waiver("NAM101", tensor="*"))
    assert _states(report) == ["not_run"]


def test_thousands_of_waivers_for_thousands_of_findings_take_a_moment():
    rule = Rule(
        id="SHP101", slug="wrong-shape", title="", severity=Severity.ERROR, scope=Scope.TENSOR, examines="tensors"
    )
    names = [f"x.{n:05d}.w" for n in range(5_000)]
    found = trace([rule.failure(f"shape {name}", tensor=name) for name in names], Inventory(()))
    waivers = Waivers(tuple((_waiver("SHP101", tensor=f"{name[:-1]}?"), rule) for name in names[1:]), TODAY)
    begin = time.monotonic()
    judged = judge(found, [], waivers=waivers, baseline=None, files=Files([]))
    assert time.monotonic() - begin < 10
    assert [each.location.tensor for each in judged.findings if each.status == "new"] == names[:1]
    assert {each.state for each in judged.waivers} == {"used"}


@pytest.mark.parametrize("glob", ["", "x", "x*", "*", "?y", "[xy]z", "{1-3}", "a.{0-1}.b", "[{]a"])
def test_what_a_glob_matches_begins_as_it_does_before_its_first_sign(glob):
    assert literal_start(glob) == {"x": "x", "x*": "x", "a.{0-1}.b": "a."}.get(glob, "")


# --- dates ---


def test_waiver_holds_through_its_last_day(folder):
    report = _audit(folder, "missing-block-scale", _waiver("QNT101", tensor="*", expires=TODAY))
    # The day may turn while this runs; the audit's own start is the judge.
    assert (report.verdict == "passed") == (report.run.started_at.date() <= TODAY)


def test_expired_waiver_stops_waiving_and_says_so(tmp_path, capsys):
    yesterday = TODAY - timedelta(days=1)
    forge(tmp_path / "broken", like="tiny", sparse=True, break_name="missing-block-scale")
    (tmp_path / "auditor.toml").write_text(
        f'[[waivers]]\nrule = "QNT101"\ntensor = "*"\nreason = "x"\nexpires = {yesterday}\n'
    )
    assert cli.main(["audit", str(tmp_path / "broken"), "--policy", str(tmp_path / "auditor.toml")]) == 1
    out = capsys.readouterr().out
    assert f"tensor *: expired on {yesterday} and no longer waives 1 of 1 finding" in out
    assert "ERROR   QNT101" in out


def test_expired_waiver_that_matches_nothing_is_told_too(folder):
    report = _audit(folder, "missing-norm", _waiver("QNT101", tensor="*", expires=date(2020, 1, 1)))
    assert [(use.state, use.findings) for use in report.waivers] == [("expired", 0)]


# --- every member ---


def test_finding_that_is_covered_in_part_gates_and_names_what_is_not_covered(folder):
    whole = _root(audit(_checkpoint(folder, "missing-layer-scales")), "QNT101")
    report = _audit(folder, "missing-layer-scales", _waiver("QNT101", tensor="model.layers.2.mlp.experts.{0-5}.*"))
    finding = _root(report, "QNT101")
    assert report.verdict == "failed"
    assert (finding.status, finding.waiver, finding.count) == ("new", None, whole.count)
    assert "model.layers.2.mlp.experts.{6-7}.up_proj.weight" in finding.uncovered
    assert not [each for each in finding.uncovered if ".experts.{0-" in each]
    assert [(use.state, use.members) for use in report.waivers] == [("partial", 18)]


def test_uncovered_members_are_shown_to_a_person(folder, tmp_path, capsys):
    (tmp_path / "auditor.toml").write_text(
        '[[waivers]]\nrule = "QNT101"\ntensor = "model.layers.2.mlp.*"\nreason = "x"\nexpires = 2999-01-01\n'
    )
    cli.main(["audit", str(_checkpoint(folder, "missing-layer-scales")), "--policy", str(tmp_path / "auditor.toml")])
    out = capsys.readouterr().out
    assert "excused in part; neither waived nor known: model.layers.2.self_attn" in out
    assert "none of which as a whole" in out


def test_several_waivers_may_cover_a_finding_together_and_the_first_to_end_ends_it(folder):
    report = _audit(
        folder,
        "missing-layer-scales",
        _waiver("QNT101", tensor="model.layers.2.mlp.*", reason="one", owner="a"),
        _waiver("QNT101", tensor="model.layers.2.self_attn.*", reason="two", owner="b", expires=date(2998, 1, 1)),
    )
    finding = _root(report, "QNT101")
    assert finding.status == "waived"
    assert (finding.waiver.reason, finding.waiver.owner) == ("one; two", "a, b")
    assert finding.waiver.expires == date(2998, 1, 1)
    assert _states(report) == ["used", "used"]


def test_patterns_of_a_report_can_be_pasted_as_globs(folder):
    finding = _root(audit(_checkpoint(folder, "missing-layer-scales")), "QNT101")
    report = _audit(
        folder, "missing-layer-scales", *(_waiver("QNT101", tensor=pattern) for pattern in finding.affected)
    )
    assert _root(report, "QNT101").status == "waived"


# --- files and fields ---


def test_file_of_a_tensor_is_the_shard_that_holds_it(folder):
    shard = _root(audit(_checkpoint(folder, "transposed-router")), "SHP101").location.file
    assert _audit(folder, "transposed-router", _waiver("SHP101", file=shard)).verdict == "passed"
    assert _audit(folder, "transposed-router", _waiver("SHP101", file="model-00001-*")).verdict == "failed"


def test_tensor_and_file_must_both_match(folder):
    tensor = _waiver("SHP101", tensor="*", file="model-00001-*")
    assert _audit(folder, "transposed-router", tensor).verdict == "failed"


def test_file_that_is_damaged_is_waived_by_its_path(folder):
    found = _root(audit(_checkpoint(folder, "missing-metadata"), fail_on="warning"), "HDR110")
    assert found.status == "new"
    report = _audit(folder, "missing-metadata", _waiver("HDR110", file="*.safetensors"), fail_on="warning")
    assert (report.verdict, _root(report, "HDR110").status) == ("passed", "waived")


def test_config_field_is_waived_by_its_name(folder):
    waiver = _waiver("CFG108", field="architectures")
    report = _audit(folder, "foreign-architecture", waiver, fail_on="warning")
    assert (report.verdict, _root(report, "CFG108").status) == ("passed", "waived")


def test_field_that_explains_many_tensors_is_not_waived_by_a_glob_of_tensors(folder):
    """The finding is about the field; its tensors are what follows."""
    report = _audit(folder, "config-wrong-hidden-size", _waiver("CFG107", tensor="*"))
    assert (report.verdict, _states(report)) == ("failed", ["unused"])


def test_waiver_does_not_make_an_incomplete_audit_complete(folder):
    report = _audit(folder, "too-many-layers", _waiver("CFG106", field="*"))
    assert report.verdict == "incomplete"


def test_uses_read_back_equal(folder):
    report = _audit(folder, "missing-block-scale", _waiver("QNT101", tensor="model.layers.*", file="model-*"))
    again = AuditReport.model_validate_json(report.model_dump_json())
    assert again == report
    assert isinstance(again.waivers[0], WaiverUse)
