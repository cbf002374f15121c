"""Stored reports in the formats of the command, and the difference between two."""

import importlib.util
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Row

from auditor.errors import AuditorError
from auditor.reporting.formats import FORMATS, render
from auditor.service.audits import lookup
from auditor.service.store.reports import Reports
from auditor.service.web.problems import ConflictProblem, NotFoundProblem, UnavailableProblem
from auditor.service.web.state import State
from auditor.text import shown
from auditor_schemas.report import AuditReport

_LONGEST_S = 120
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


class Kind(NamedTuple):
    """How a format is served: the end of its address and of its file's name, and its media type."""

    suffix: str
    media_type: str
    inline: bool = False


KINDS = {
    "json": Kind("json", "application/json"),
    "html": Kind("html", "text/html; charset=utf-8", inline=True),
    "sarif": Kind("sarif", "application/sarif+json"),
    "junit": Kind("junit.xml", "application/xml"),
    "markdown": Kind("md", "text/markdown; charset=utf-8", inline=True),
    "csv": Kind("csv.zip", "application/zip"),
}
TABLES = tuple(each.removesuffix(".csv") for each in FORMATS["csv"].files)


def reported(state: State, audit: str) -> Row[Any]:
    """A finished audit. Raises NotFoundProblem, ConflictProblem for one without a report."""
    with state.database.read() as connection:
        row = lookup.audit(connection, audit)
    if row is None:
        raise NotFoundProblem
    if row.report is None:
        raise ConflictProblem(f"it is {row.state}, and there is no report")
    return row


def stored(reports: Reports, sha256: str) -> bytes:
    """A report's JSON. Raises NotFoundProblem where it is gone, UnavailableProblem where the store is away."""
    try:
        data = reports.get(sha256)
    except OSError:
        raise UnavailableProblem("the store of reports does not answer") from None
    if data is None:
        raise NotFoundProblem("the report is not in the store, or no longer what it was")
    return data


def rendered(data: bytes, name: str) -> bytes:
    """A report's JSON in a format of KINDS."""
    if name == "json":
        return data
    if name == "csv":
        return _zipped(tables(data))
    text = render(AuditReport.model_validate_json(data), name)
    assert isinstance(text, str)
    return text.encode()


def tables(data: bytes) -> dict[str, bytes]:
    """The CSV files of a report, made by a process of its own: pandas is as large as all of the service."""
    if importlib.util.find_spec(FORMATS["csv"].needs or "") is None:
        raise UnavailableProblem("tables need pandas, which is not installed: checkpoint-auditor[tables]")
    with tempfile.TemporaryDirectory(prefix="auditor-") as folder:
        file, out = Path(folder) / "report.json", Path(folder) / "tables"
        file.write_bytes(data)
        try:
            subprocess.run(  # noqa: S603  # our own program, with names of our own
                [sys.executable, "-m", "auditor", "report", str(file), "--csv", str(out), "--quiet"],
                check=False,
                capture_output=True,
                timeout=_LONGEST_S,
                stdin=subprocess.DEVNULL,
            )
            return {each: (out / each).read_bytes() for each in FORMATS["csv"].files}
        except (OSError, subprocess.TimeoutExpired):
            raise UnavailableProblem("the tables could not be made") from None


def difference(reports: Reports, old: str, new: str, name: str, *, above: str | None = None) -> bytes:
    """What changed between two stored reports, as json or html. Raises ConflictProblem where it cannot be."""
    from auditor.questions.diff import difference as differ
    from auditor.questions.diff import reported as side
    from auditor.questions.diff import written

    sides = []
    for sha256, label in ((old, "OLD"), (new, "NEW")):
        report = AuditReport.model_validate_json(stored(reports, sha256))
        try:
            sides.append(side(report, label, label))
        except AuditorError as error:
            raise ConflictProblem(str(error)) from None
    diff = differ(*sides)
    if name == "html":
        from auditor_reports.diff import render as page

        return page(diff, above=above).encode()
    return written(diff).encode()


def file_name(row: Row[Any], suffix: str) -> str:
    """A name for a file of an audit, of characters that no header and no file system minds."""
    last = _PLAIN.sub("-", shown(str(row.source)).rstrip("/").rpartition("/")[2]).strip("-.")[:80]
    return f"{last or 'checkpoint'}-{row.id[:12]}.{suffix}"


def _zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)  # of one date, so that equal tables are equal archives
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return packed.getvalue()
