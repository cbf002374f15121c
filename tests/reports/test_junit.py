"""JUnit XML that junitparser reads and the Ant schema accepts: a case per rule, with the outcome that it had."""

from pathlib import Path

import made_reports as made
import pytest
import xmlschema
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase

from auditor_reports.junit import SHOWN, render
from auditor_schemas.report import AuditReport
from auditor_schemas.rule import Severity

SCHEMA = xmlschema.XMLSchema(Path(__file__).parents[1] / "data" / "foreign" / "junit.xsd")


def _cases(report: AuditReport) -> dict[str, TestCase]:
    text = render(report)
    SCHEMA.validate(text)
    suites = JUnitXml.fromstring(text.encode())
    return {case.name: case for suite in suites for case in suite}


def _outcome(case: TestCase) -> str:
    if not case.result:
        return "passed"
    (result,) = case.result
    return {Failure: "failure", Error: "error", Skipped: "skipped"}[type(result)]


@pytest.mark.parametrize("name", ["sound", "broken", "waived_and_known", "incomplete", "many"])
def test_ant_schema_accepts_it_and_its_sums_are_those_of_its_cases(name):
    report = getattr(made, name)()
    text = render(report)
    SCHEMA.validate(text)
    suites = JUnitXml.fromstring(text.encode())
    for suite in suites:
        outcomes = [_outcome(case) for case in suite]
        assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (
            len(outcomes), outcomes.count("failure"), outcomes.count("error"), outcomes.count("skipped"),
        )  # fmt: skip


def test_each_rule_is_one_case_and_the_audit_is_one():
    report = made.sound()
    cases = _cases(report)
    assert set(cases) == {f"{each.rule} {each.slug}" for each in report.outcomes} | {"complete"}


def _assert_passed_but_for_values(report):
    """Every case passed, but for the rules of values, which depth headers does not ask, and those for no family."""
    not_asked = ("VAL", "CFG112", "NAM2", "SHP2", "QNT2")
    for name, case in _cases(report).items():
        assert _outcome(case) == ("skipped" if name.startswith(not_asked) else "passed"), name


def test_sound_checkpoint_fails_no_case_though_it_has_notes():
    report = made.sound()
    assert report.findings
    _assert_passed_but_for_values(report)


def test_broken_checkpoint_fails_the_rules_that_gate_and_no_other():
    report = made.broken()
    gating = {
        f"{each.rule} {each.slug}"
        for each in report.findings
        if each.caused_by is None and each.severity == Severity.ERROR
    }
    failed = {name for name, case in _cases(report).items() if _outcome(case) == "failure"}
    assert failed == gating != set()


def test_failure_says_what_is_wrong_where_and_what_was_expected():
    case = _cases(made.broken())["QNT101 missing-block-scale"]
    (failure,) = case.result
    assert "FP8 weight has no weight_scale_inv" in failure.message
    assert failure.type == "error"
    assert "model.layers.32.mlp.experts.{0-255}.down_proj.weight" in failure.text
    assert "expected " in failure.text


def test_warning_fails_only_where_warnings_gate():
    warns = made.full_size("unexpected-tensors")
    name = "NAM102 unexpected-tensor"
    assert _outcome(_cases(warns)[name]) == "passed"
    assert _outcome(_cases(warns.model_copy(update={"fail_on": "warning", "verdict": "failed"}))[name]) == "failure"


def test_nothing_fails_where_nothing_gates_and_the_findings_stay_in_sight():
    report = made.broken().model_copy(update={"fail_on": "never", "verdict": "passed"})
    _assert_passed_but_for_values(report)
    assert "FP8 weight has no weight_scale_inv" in render(report)


def test_waived_rule_is_skipped_with_reason_owner_and_expiry():
    (skipped,) = _cases(made.waived_and_known())["NAM101 missing-tensor"].result
    assert isinstance(skipped, Skipped)
    assert skipped.message == "waived by team-moe until 2099-01-31: the router is loaded from elsewhere"


def test_known_rule_is_skipped_as_known():
    (skipped,) = _cases(made.waived_and_known())["SHP101 wrong-shape"].result
    assert isinstance(skipped, Skipped)
    assert "baseline" in skipped.message


def test_not_applicable_rule_is_skipped_with_its_reason():
    (skipped,) = _cases(made.waived_and_known())["QNT101 missing-block-scale"].result
    assert isinstance(skipped, Skipped)
    assert skipped.message == "not applicable: no quantisation is declared"


def test_new_finding_beside_a_waived_one_still_fails():
    report = made.waived_and_known()
    new = report.findings[0].model_copy(update={"status": "new", "waiver": None, "fingerprint": made.fingerprint("n")})
    both = report.model_copy(update={"verdict": "failed", "findings": (*report.findings, new)})
    assert _outcome(_cases(both)["NAM101 missing-tensor"]) == "failure"


def test_crashed_rule_and_incomplete_audit_are_errors_with_their_reasons():
    cases = _cases(made.incomplete())
    (crash,) = cases["SHP101 wrong-shape"].result
    (unread,) = cases["complete"].result
    assert isinstance(crash, Error)
    assert "ZeroDivisionError" in crash.message
    assert isinstance(unread, Error)
    assert "permission denied" in unread.text


def test_failed_verdict_without_a_gating_finding_fails_the_audit_s_own_case():
    report = made.sound().model_copy(update={"verdict": "failed"})
    assert _outcome(_cases(report)["complete"]) == "failure"


def test_fifty_thousand_findings_are_written_as_far_as_anybody_reads_with_the_rest_counted():
    text = render(made.many())
    assert len(text) < 1_000_000
    assert f"and {16_667 + 16_667 - SHOWN - 16_667:,} findings more" in text
