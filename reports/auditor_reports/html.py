"""An audit report as one HTML page that works offline, prints, and runs under a strict content security policy."""

import base64
import gzip
import hashlib
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditor_reports import text
from auditor_reports.view import page
from auditor_schemas.report import AuditReport

# Beyond this the report travels compressed: 50,000 findings are 20 MB of JSON.
PLAIN_JSON_BYTES = 2 << 20


def render(report: AuditReport) -> str:
    """The page, complete with the report's JSON for download. Every text in it is escaped and shown as escapes."""
    environment = _environment()
    style, script = _source(environment, "report.css"), _source(environment, "report.js")
    document = report.model_dump_json()
    packed = len(document) > PLAIN_JSON_BYTES
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return environment.get_template("report.html").render(
        page=page(report),
        policy=policy,
        style=Markup(style),  # noqa: S704  # the package's own file
        script=Markup(script),  # noqa: S704  # the package's own file
        packed=packed,
        document=Markup(_packed(document) if packed else text.embedded(document)),  # noqa: S704  # base64, or escaped
    )


@cache
def _environment() -> Environment:
    """Templates fail on an undefined name, and no string reaches the page without passing `shown`."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=PackageLoader("auditor_reports"),
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters["shown"] = text.shown
    return environment


def _finalize(output: Any) -> Any:
    return text.shown(output) if isinstance(output, str) and not isinstance(output, Markup) else output


def _source(environment: Environment, name: str) -> str:
    """A file of the package, exactly as it stands between its tags: the policy's hash covers every character."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash(block: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}"


def _packed(document: str) -> str:
    return base64.b64encode(gzip.compress(document.encode(), mtime=0)).decode()
