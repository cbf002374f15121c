"""What the gate says besides its findings reaches every machine format: nothing is excused in silence."""

import json
from datetime import date
from typing import Literal

import made_reports as made
import pytest
from pydantic import BaseModel

from auditor_reports import junit, markdown, sarif
from auditor_reports.outline import remarks
from auditor_schemas.report import AuditReport
from auditor_schemas.rule import Severity


class Use(BaseModel):
    rule: str = "NAM101"
    slug: str = "missing-tensor"
    tensor: str | None = "model.layers.7.*"
    file: str | None = None
    field: str | None = None
    reason: str = "loaded from elsewhere"
    owner: str | None = None
    expires: date = date(2026, 1, 31)
    state: Literal["used", "partial", "unused", "expired", "not_run"] = "used"


class Lost(BaseModel):
    rule: str = "SHP101"
    slug: str = "wrong-shape"
    severity: Severity = Severity.ERROR
    message: str = "shape is (1,)"
    fingerprint: str = "0"
    count: int = 1
    of: int = 1


class Judged(AuditReport):
    """A report with what a policy, its waivers and a baseline add to it."""

    unmet: tuple[str, ...] = ()
    waivers: tuple[Use, ...] = ()
    gone: tuple[Lost, ...] = ()


def _judged(**more) -> Judged:
    return Judged.model_validate({**made.sound().model_dump(), **more})


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("expired", "expired on 2026-01-31"),
        ("unused", "matches no finding"),
        ("partial", "covers only a part"),
        ("not_run", "its rule did not run"),
    ],
)
def test_waiver_that_waives_nothing_is_said_in_every_format(state, said):
    report = _judged(waivers=(Use(state=state),))
    (sentence,) = remarks(report)
    assert sentence == f"waiver of NAM101 missing-tensor tensor model.layers.7.*: {sentence.partition(': ')[2]}"
    assert said in sentence
    run = json.loads(sarif.render(report))["runs"][0]
    (notification,) = run["invocations"][0]["toolExecutionNotifications"]
    assert notification["level"] == "warning"
    assert said in notification["message"]["text"]
    assert said in junit.render(report)
    assert said in markdown.render(report).replace("`", "")


def test_waiver_that_waives_is_no_remark():
    assert remarks(_judged(waivers=(Use(state="used"),))) == []


def test_what_is_gone_since_the_baseline_is_said():
    assert "gone since the baseline" in markdown.render(_judged(gone=(Lost(),)))


def test_unmet_policy_fails_the_audit_s_case_and_is_in_the_summary():
    report = _judged(verdict="failed", unmet=("depth full is required, this is headers",))
    assert "The policy is not met: do not ship" in markdown.render(report)
    assert "depth full is required" in junit.render(report)
    assert 'failures="1"' in junit.render(report)
