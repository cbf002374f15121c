"""Writes the sample report again: the audit of a forged DeepSeek-V3 layout that lacks one shard.

    make sample            # or: python reports/sample/make.py

Times are fixed, so that what changes in report.json and report.html is what changed in the auditor.
"""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from auditor import audit
from auditor.forge import forge
from auditor_reports.html import render
from auditor_schemas.report import AuditReport

HERE = Path(__file__).resolve().parent
BREAK = "missing-shard"
STARTED = datetime(2025, 1, 1, 12, tzinfo=UTC)
SECONDS = 0.8


def audit_sample() -> AuditReport:
    """The audit of the sample's checkpoint, forged anew, with fixed times."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "DeepSeek-V3"
        forge(checkpoint, like="v3", sparse=True, break_name=BREAK)
        report = audit(checkpoint)
    run = report.run.model_copy(update={"started_at": STARTED, "duration_s": SECONDS})
    return report.model_copy(update={"run": run})


def document(report: AuditReport) -> str:
    """The report as `auditor audit --json` writes it."""
    return report.model_dump_json(indent=2) + "\n"


def write() -> None:
    """Both files."""
    report = audit_sample()
    (HERE / "report.json").write_text(document(report), encoding="utf-8")
    (HERE / "report.html").write_text(render(report), encoding="utf-8")


if __name__ == "__main__":
    write()
