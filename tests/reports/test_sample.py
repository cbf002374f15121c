"""The committed sample: what it shows is what the auditor finds and how it renders today, so a change is a diff."""

import importlib.util
import json
from pathlib import Path

from auditor_reports.html import render
from auditor_schemas.report import AuditReport

SAMPLE = Path(__file__).parents[2] / "reports" / "sample"
HOW = "`make sample` writes it again: look at its diff, then commit it"


def _made():
    spec = importlib.util.spec_from_file_location("sample", SAMPLE / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_committed_page_is_what_the_committed_json_renders_to():
    report = AuditReport.model_validate_json((SAMPLE / "report.json").read_bytes())
    assert render(report) == (SAMPLE / "report.html").read_text(encoding="utf-8"), HOW


def test_auditing_the_forged_checkpoint_again_gives_the_committed_json():
    made = _made()
    again = json.loads(made.document(made.audit_sample()))
    committed = json.loads((SAMPLE / "report.json").read_text(encoding="utf-8"))
    committed["tool"]["version"] = again["tool"]["version"]
    assert again == committed, HOW


def test_sample_says_whether_to_ship_and_why():
    page = (SAMPLE / "report.html").read_text(encoding="utf-8")
    first_screen = page[page.index("<main>") : page.index('<section id="map"')]
    for words in ("Failed", "Do not ship this checkpoint.", "model-00082-of-000163.safetensors", "is not there"):
        assert words in first_screen
