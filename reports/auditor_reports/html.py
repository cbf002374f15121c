"""An audit report as one HTML page that works offline, prints, and runs under a strict content security policy."""

from auditor_reports.carried import carry, findings_data
from auditor_reports.document import compose
from auditor_reports.view import page
from auditor_schemas.report import AuditReport

SCRIPTS = tuple(f"script/{name}.js" for name in ("data", "findings", "map", "page"))


def render(report: AuditReport, *, above: str | None = None) -> str:
    """The page, complete with the report's JSON for download. Every text in it is escaped and shown as escapes.

    `above` is the address of the checkpoint's history, where the page is one of a service.
    """
    view = page(report)
    data = [carry("report", report.model_dump_json())]
    if view.findings.order:
        data.append(carry("findings-data", findings_data(report.findings, view.findings)))
    return compose("report.html", style="report.css", scripts=SCRIPTS, trusted=True, page=view, data=data, above=above)
