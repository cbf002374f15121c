"""A report without what is not for everybody: absolute paths, user names and passwords in URLs, signed queries."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from auditor_schemas.report import AuditReport

# Tensor names and their patterns are the checkpoint's own and name nothing on this machine.
_NAMES = frozenset({"tensor", "affected", "pattern", "fingerprint", "rule", "slug", "uncovered", "kind", "cells"})
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>]+")
_END = r"\s'\"<>:,;()|"
_PATH = re.compile(
    r"(?P<quote>['\"])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^'\"\n]*(?P=quote)"  # in quotes, blanks included
    rf"|(?<![\w./:\\~\-])~?/(?:[^{_END}/]+/)+[^{_END}]*"  # POSIX, two components at least
    rf"|(?<![\w./:\\])(?:[A-Za-z]:[\\/]|\\\\)[^{_END}]+"  # Windows
)


_SEPARATOR = re.compile(r"[/\\]")


def redact(report: AuditReport) -> AuditReport:
    """The same report, fit to be published; a report without any of this comes back equal."""
    document = report.model_dump()
    changed = _walk(document, "")
    changed["source"]["uri"] = uri(report.source.uri)
    return report if changed == document else AuditReport.model_validate(changed)


def uri(value: str) -> str:
    """A source's address: of a local path the last component, of a URL scheme, host and path."""
    if "://" in value:
        return _url(value)
    if value.startswith(("/", "~", "\\")) or re.match(r"[A-Za-z]:[\\/]", value):
        return _SEPARATOR.split(value.rstrip("/\\"))[-1] or "checkpoint"
    return value


def text(value: str) -> str:
    """A sentence in which URLs keep scheme, host and path, and absolute paths their last component."""
    if "/" not in value and "\\" not in value:
        return value
    parts, end = [], 0
    for found in _URL.finditer(value):
        parts += [_PATH.sub(_last, value[end : found.start()]), _url(found[0])]
        end = found.end()
    return "".join([*parts, _PATH.sub(_last, value[end:])])


def _walk(value: Any, key: str) -> Any:
    if isinstance(value, str):
        return value if key in _NAMES else text(value)
    if isinstance(value, Mapping):
        return {name: _walk(each, str(name)) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_walk(each, key) for each in value)
    return value


def _url(value: str) -> str:
    try:
        parts: SplitResult = urlsplit(value)
    except ValueError:  # no address at all, and nothing of it is worth the risk
        return value.partition("://")[0] + "://…"
    if parts.scheme.lower() == "file":
        return uri(parts.path) if parts.path.startswith("/") else "…"
    user, at, host = parts.netloc.rpartition("@")
    if at and parts.scheme.lower() == "hf" and ":" not in user:  # hf://name@revision has no user
        host = parts.netloc
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _last(found: re.Match[str]) -> str:
    quote = found["quote"] or ""
    name = _SEPARATOR.split(found[0].strip(quote or " ").rstrip("/\\"))[-1]
    return f"{quote}…/{name}{quote}"
