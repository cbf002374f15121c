"""The verdict: what gates, what does not, and what outranks what."""

import shutil

import pytest

from auditor import audit
from auditor.forge import forge
from auditor.verdict.gate import EXIT_CODES, decide
from auditor_schemas.finding import Finding, Location, Waiver


def _finding(severity: str, **changes: object) -> Finding:
    values = {
        "rule": "NAM101", "slug": "missing-tensor", "severity": severity, "message": "", "location": Location(),
        "count": 1, "affected": (), "fingerprint": "0" * 64,
    }  # fmt: skip
    return Finding.model_validate({**values, **changes})


@pytest.mark.parametrize(
    ("severities", "fail_on", "verdict"),
    [
        ([], "error", "passed"),
        (["info"], "warning", "passed"),
        (["warning"], "error", "passed"),
        (["warning"], "warning", "failed"),
        (["error"], "error", "failed"),
        (["error"], "warning", "failed"),
        (["error", "warning"], "never", "passed"),
    ],
)
def test_verdict_is_failed_at_or_above_the_severity_that_fails(severities, fail_on, verdict):
    assert decide(map(_finding, severities), [], fail_on) == verdict


@pytest.mark.parametrize("fail_on", ["error", "warning", "never"])
def test_incomplete_outranks_every_other_verdict(fail_on):
    assert decide([_finding("error")], ["permission denied"], fail_on) == "incomplete"


def test_consequences_do_not_gate_their_causes_do():
    assert decide([_finding("error", caused_by="1" * 64)], [], "error") == "passed"


def test_known_and_waived_findings_do_not_gate():
    waiver = Waiver(reason="x", owner=None, expires="2030-01-01")
    assert decide([_finding("error", status="known")], [], "error") == "passed"
    assert decide([_finding("error", status="waived", waiver=waiver)], [], "error") == "passed"


def test_exit_codes_are_the_contract():
    assert EXIT_CODES == {"passed": 0, "failed": 1, "incomplete": 3}


@pytest.mark.parametrize("name", ["config-not-json", "missing-config", "config-missing-field"])
@pytest.mark.parametrize("way", ["severity", "waiver", "baseline"])
def test_where_nothing_is_expected_of_the_tensors_nothing_passes(name, way, tmp_path):
    """Who makes config.json unusable must not get everything else past a gate that lets that go."""
    folder, before = tmp_path / "checkpoint", tmp_path / "before"
    forge(before, like="tiny", sparse=True, break_name=name)
    shutil.copytree(before, folder)
    rule = next(each for each in audit(before).findings if each.severity == "error")
    policy, baseline = tmp_path / "auditor.toml", None
    policy.write_text("")
    if way == "severity":
        policy.write_text(f'[severity]\n"{rule.slug}" = "warning"\n')
    elif way == "waiver":
        where = 'field = "*"' if rule.location.field else 'file = "*"'
        policy.write_text(f'[[waivers]]\nrule = "{rule.slug}"\n{where}\nreason = "known"\nexpires = 2099-01-01\n')
    else:
        baseline = tmp_path / "before.json"
        baseline.write_text(audit(before).model_dump_json())
    report = audit(folder, policy=policy, baseline=baseline)
    assert report.verdict == "failed"
    assert any(each.startswith("nothing was expected of the tensors: config.json is") for each in report.unmet)
