"""Every format of a report by name; what writes one is imported when it is asked for."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from auditor_schemas.report import AuditReport


class Format(NamedTuple):
    """One way to write a report: its option's help, the text of its file or of the files of its folder, its needs."""

    help: str
    render: "Callable[[AuditReport], str | dict[str, str]]"
    folder: bool = False
    files: tuple[str, ...] = ()  # in its folder
    needs: str | None = None  # a module that an extra installs
    extra: str | None = None


def _json(report: "AuditReport") -> str:
    from auditor.text import shown_json

    return shown_json(report.model_dump_json(indent=2)) + "\n"


def _html(report: "AuditReport") -> str:
    from auditor_reports import html

    return html.render(report)


def _sarif(report: "AuditReport") -> str:
    from auditor.rules.pages import page_of
    from auditor_reports import sarif

    return sarif.render(report, {each.rule: page_of(each.slug) or "" for each in report.outcomes})


def _junit(report: "AuditReport") -> str:
    from auditor_reports import junit

    return junit.render(report)


def _markdown(report: "AuditReport") -> str:
    from auditor_reports import markdown

    return markdown.render(report)


def _csv(report: "AuditReport") -> dict[str, str]:
    from auditor_reports import tables

    return tables.render(report)


FORMATS = {
    "json": Format("write the report as JSON", _json),
    "html": Format("write the report as one HTML page", _html),
    "sarif": Format("write the findings as SARIF 2.1.0, for code scanning", _sarif),
    "junit": Format("write a test case for each rule as JUnit XML", _junit),
    "markdown": Format("write a summary as Markdown, for a CI step", _markdown),
    "csv": Format(
        "write inventory, tallies and findings as CSV files",
        _csv,
        folder=True,
        files=("inventory.csv", "tallies.csv", "findings.csv"),
        needs="pandas",
        extra="tables",
    ),
}


def render(report: "AuditReport", name: str) -> str | dict[str, str]:
    """A report in a format of FORMATS: the text of its file, or of each file of its folder by name."""
    return FORMATS[name].render(report)
