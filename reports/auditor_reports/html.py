"""An audit report as one HTML page that works offline, prints, and runs under a strict content security policy."""

import base64
import hashlib
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditor_reports import text
from auditor_reports.carried import carried, findings_data
from auditor_reports.view import page
from auditor_schemas.report import AuditReport

SCRIPTS = ("data.js", "findings.js", "map.js", "page.js")


def render(report: AuditReport) -> str:
    """The page, complete with the report's JSON for download. Every text in it is escaped and shown as escapes."""
    environment = _environment()
    style = _source(environment, "report.css")
    script = "".join(_source(environment, f"script/{name}") for name in SCRIPTS)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    view = page(report)
    data = [carried("report", report.model_dump_json())]
    if view.findings.order:
        data.append(carried("findings-data", findings_data(report.findings, view.findings)))
    return environment.get_template("report.html").render(
        page=view,
        policy=policy,
        style=Markup(style),  # noqa: S704  # the package's own file
        script=Markup(script),  # noqa: S704  # the package's own files
        data=data,
    )


@cache
def _environment() -> Environment:
    """Templates fail on an undefined name, and no string reaches the page without passing `shown`."""
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=PackageLoader("auditor_reports"),
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )


def _finalize(output: Any) -> Any:
    return text.shown(output) if isinstance(output, str) and not isinstance(output, Markup) else output


def _source(environment: Environment, name: str) -> str:
    """A file of the package, exactly as it stands between its tags: the policy's hash covers every character."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash(block: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}"
