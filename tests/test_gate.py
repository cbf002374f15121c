"""The verdict: what gates, what does not, and what outranks what."""

import pytest

from auditor.gate import EXIT_CODES, decide
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
