"""What is told of an audit that has ended: one JSON document, the same for every kind of target."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One notification. `id` stays the same however often it is sent; `at_ms` is now, by the database's clock.

    `origin` is what asked for the audit and is to be told, where a target tells each by itself. `mark` is the same for
    every message about the source and that origin, and nobody can foretell it.
    """

    id: str
    at_ms: int
    body: str
    origin: str | None
    mark: str

    @property
    def audit(self) -> dict[str, Any]:
        """What is told, read back."""
        data: dict[str, Any] = json.loads(self.body)["data"]
        return data


def body(audit: Row[Any], public_url: str | None) -> str:
    """The document, of ASCII characters alone."""
    ended, url = when(audit.ended_at), None if public_url is None else public_url.rstrip("/")
    report = f"/v1/audits/{audit.id}/report" if audit.state == "finished" else None
    data = {
        "audit": audit.id,
        "source": audit.source,
        "revision": audit.revision,
        "commit": audit.resolved or _commit(audit.revision),
        "depth": audit.depth,
        "state": audit.state,
        "verdict": audit.verdict,
        "errors": audit.errors,
        "warnings": audit.warnings,
        "cause": audit.cause,
        "reason": audit.reason,
        "policy": audit.policy,
        "policy_sha256": audit.policy_sha256,
        "report_sha256": audit.report,
        "tool": audit.tool,
        "attempts": audit.attempt,
        "created_at": when(audit.created_at),
        "ended_at": ended,
        "links": {
            "page": _link(url, f"/audits/{audit.id}"),
            "audit": _link(url, f"/v1/audits/{audit.id}"),
            "report": _link(url, report),
        },
    }
    return json.dumps({"type": f"audit.{audit.state}", "timestamp": ended, "data": data}, separators=(",", ":"))


def _commit(revision: str | None) -> str | None:
    """The commit of which an audit ended before it saw any: what was asked for, where that is one."""
    return revision if revision is not None and _COMMIT.fullmatch(revision) else None


def summary(audit: dict[str, Any]) -> str:
    """One line that says how it ended."""
    if audit["state"] == "cancelled":
        return "cancelled"
    if audit["state"] == "failed":
        return f"no report: {(audit['cause'] or 'unknown').replace('_', ' ')}"
    counts = f"{_count(audit['errors'], 'error')}, {_count(audit['warnings'], 'warning')}"
    return f"{audit['verdict']} at depth {audit['depth']}: {counts}"


def when(at_ms: int) -> str:
    """A time as RFC 3339 has it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _count(number: int | None, what: str) -> str:
    return f"{number or 0:,} {what}{'' if number == 1 else 's'}"


def _link(url: str | None, path: str | None) -> str | None:
    return None if url is None or path is None else url + path
