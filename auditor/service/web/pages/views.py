"""Rows as the templates print them: words, times, counts. Templates compute nothing."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Row

from auditor.service.web.models import ContentProgress, Progress
from auditor.text import duration
from auditor_reports import text
from auditor_reports.outline import MARKS

_SHORT = 12
_VERDICTS = {"passed": "Passed", "failed": "Failed", "incomplete": "Incomplete"}
_STATES = {
    "queued": ("waiting", "○", "Waiting"),
    "running": ("running", "▶", "Running"),
    "failed": ("unreported", "!", "No report"),
    "cancelled": ("cancelled", "–", "Cancelled"),
    "none": ("waiting", "○", "No report yet"),
}
DEPTHS = {"headers": "no tensor data", "sample": "a sample of the tensor data", "full": "all of the tensor data"}


class Standing(NamedTuple):
    """A verdict or a state: its class, and its word with a mark that tells it apart without colour."""

    verdict: str
    mark: str
    word: str


class When(NamedTuple):
    """A moment of UTC, and how long ago it was."""

    iso: str
    date: str
    time: str
    age: str


def standing(state: str, verdict: str | None) -> Standing:
    """What an audit came to, or where it is."""
    if state == "finished" and verdict is not None:
        return Standing(verdict, MARKS[verdict], _VERDICTS[verdict])
    return Standing(*_STATES[state])


def verdict(word: str | None) -> Standing:
    """A checkpoint's latest verdict, or that it has none."""
    return standing("none", None) if word in (None, "none") else standing("finished", word)


def when(at: int, now: int) -> When:
    """A time of the database's, seen from its present one."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    return When(f"{moment:%Y-%m-%dT%H:%M:%SZ}", f"{moment:%Y-%m-%d}", f"{moment:%H:%M} UTC", ago(now - at))


def ago(milliseconds: int) -> str:
    """'just now', '5 min ago', '3 h ago', '12 days ago'."""
    minutes = max(0, milliseconds) // 60_000
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    if minutes < 48 * 60:
        return f"{minutes // 60} h ago"
    return f"{minutes // 1440:,} days ago"


def within(milliseconds: int) -> str:
    """'in 25 s', 'in 2 min 05 s'; 'now' for what is due."""
    return f"in {duration(milliseconds / 1000)}" if milliseconds > 0 else "now"


def lasted(begun: int | None, ended: int) -> str:
    """How long something took, or takes so far."""
    return "" if begun is None else duration(max(0, ended - begun) / 1000)


def findings(row: Row[Any]) -> str:
    """The errors and warnings of an audit, or of a checkpoint's latest."""
    if row.verdict is None:
        return ""
    counts = ((row.errors or 0, "error"), (row.warnings or 0, "warning"))
    return ", ".join(text.plural(count, noun) for count, noun in counts if count) or "no error or warning"


def short(revision: str | None) -> str | None:
    """A commit as it is told apart; a branch or a tag as it is."""
    if revision is None:
        return None
    return revision[:_SHORT] if len(revision) in (40, 64) else text.shown(revision[:60])


def checkpoint(row: Row[Any], now: int, history: list[str], audit: Row[Any] | None) -> dict[str, Any]:
    """A line of the dashboard; `audit` is one that is under way, or that ended without a report where there is none."""
    return {
        "id": row.id,
        "source": row.source,
        "latest": verdict(row.verdict),
        "report": row.report is not None,
        "findings": findings(row) or _reason(audit),
        "depth": row.depth,
        "revision": short(row.resolved or row.revision),
        "history": [verdict(each) for each in reversed(history)],
        "when": when(row.latest_at, now),
        "audit": None if audit is None else {"id": audit.id, **standing(audit.state, None)._asdict()},
    }


def _reason(audit: Row[Any] | None) -> str:
    # Why the attempt before gave no verdict says nothing of one that runs.
    return "" if audit is None or audit.state == "running" else audit.reason or ""


def audit(row: Row[Any], now: int) -> dict[str, Any]:
    """A line of a list of audits."""
    return {
        "id": row.id,
        "source": row.source,
        "checkpoint": row.checkpoint,
        "standing": standing(row.state, row.verdict),
        "finished": row.state == "finished",
        "findings": findings(row),
        "depth": row.depth,
        "revision": short(row.resolved or row.revision),
        "asked": when(row.created_at, now),
        "ended": None if row.ended_at is None else when(row.ended_at, now),
        # Between two attempts nothing takes time.
        "took": "" if row.state == "queued" else lasted(row.started_at, row.ended_at or now),
        "reason": _reason(row),
        "pinned": row.pinned,
        "fingerprint": short(row.fingerprint),
        "policy": row.policy or ("of the request" if row.policy_sha256 else None),
        "tool": row.tool,
        "same_as": row.same_as,
    }


def progress(at: Progress) -> dict[str, Any]:
    """How far an attempt is, in words, and in figures for who draws them."""
    if at.what == "preparing":
        return {"words": at.why or "preparing", "done": None, "total": None}
    if at.done is None or not at.total:
        return {"words": at.what, "done": None, "total": None}
    if at.what == "bytes":
        words = f"{text.size(at.done)} of {text.size(at.total)}"
    else:
        words = f"{text.number(at.done)} of {text.number(at.total)} {at.what}"
    return {"words": f"{words} ({text.share(at.done, at.total)}){_by(at)}", "done": at.done, "total": at.total}


def _by(at: Progress) -> str:
    """Who reads, where that is a cluster."""
    if not isinstance(at, ContentProgress) or at.nodes < 2:
        return ""
    again = f", {text.number(at.retries)} begun again" if at.retries else ""
    left = f"{text.number(at.units_left)} of {text.number(at.units)} units left"
    return f"; {text.number(at.nodes)} nodes, {text.number(at.workers)} workers, {left}{again}"
