"""An audit report as one HTML page that works offline, prints, and runs under a strict content security policy."""

import base64
import gzip
import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditor_reports import text
from auditor_reports.view import page
from auditor_reports.view_findings import carried
from auditor_schemas.report import AuditReport

# Beyond this, what the page carries travels compressed: 50,000 findings are 20 MB of JSON.
PLAIN_BYTES = 1 << 20
SCRIPTS = ("data.js", "findings.js", "map.js", "page.js")


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """JSON inside the page, as it is or packed."""

    id: str
    type: str
    packed: bool
    text: Markup


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
    data = [_carried("report", report.model_dump_json())]
    if view.findings.rows:
        data.append(_carried("findings-data", json.dumps(carried(view.findings), separators=(",", ":"))))
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


def _carried(name: str, document: str) -> Carried:
    packed = len(document) > PLAIN_BYTES
    held = _packed(document) if packed else text.embedded(document)
    kind = "application/octet-stream" if packed else "application/json"
    return Carried(id=name, type=kind, packed=packed, text=Markup(held))  # noqa: S704  # base64, or escaped


_DIGEST = re.compile("([0-9a-f]{64})")


def _packed(document: str) -> str:
    """JSON as gzip, and apart from it the SHA-256 digests that do not compress, each in base64.

    In a digest's place stands U+0001, which JSON text never holds as it is.
    """
    parts = _DIGEST.split(document)
    digests = bytes.fromhex("".join(parts[1::2]))
    rest = gzip.compress("\x01".join(parts[::2]).encode(), 6, mtime=0)
    return f"{base64.b64encode(rest).decode()}.{base64.b64encode(digests).decode()}"
