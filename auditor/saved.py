"""A saved report, read back: validated, or refused in one line that names the file."""

import hashlib
from os import PathLike
from typing import TYPE_CHECKING

from auditor.errors import SourceError
from auditor.text import shown

if TYPE_CHECKING:
    from auditor_schemas.report import AuditReport

MOST_BYTES = 1 << 30


def read_report(path: str | PathLike[str]) -> "AuditReport":
    """The report in a file that `audit --json` wrote; raises SourceError for anything else."""
    return read_digested(path)[0]


def read_digested(path: str | PathLike[str]) -> "tuple[AuditReport, str]":
    """A saved report and the SHA-256 of its file; raises SourceError in one line where it is none."""
    from pydantic import ValidationError

    from auditor_schemas.report import AuditReport

    name = shown(str(path))
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SourceError(f"{name}: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise SourceError(f"{name}: not an audit report: larger than {MOST_BYTES:,} bytes")
    try:
        return AuditReport.model_validate_json(data), hashlib.sha256(data).hexdigest()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        message = shown(first["msg"].lower())
        raise SourceError(f"{name}: not an audit report: {shown(where)}: {message}") from error
