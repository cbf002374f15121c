"""What waits, what runs, and who runs it."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Row
from starlette.responses import HTMLResponse

from auditor.service.store.database import now
from auditor.service.web.callers import Reader
from auditor.service.web.models import progress_of
from auditor.service.web.pages import queries, views
from auditor.service.web.pages.document import page
from auditor.service.web.state import state_of
from auditor_reports.text import number, plural

router = APIRouter(include_in_schema=False)
_EACH = 50
_NAMES = {"headers": "Audits of headers", "content": "Audits of content"}


@router.get("/queue")
def queue(request: Request, caller: Reader) -> HTMLResponse:
    """The queues with what is next in each, what runs, and the workers."""
    state = state_of(request)
    settings = state.installation.settings
    with state.database.read() as connection:
        at = now(connection)
        standing = queries.standing(connection)
        running = queries.under_trial(connection, _EACH)
        waiting = {name: queries.waiting(connection, name, _EACH) for name in _NAMES}
        workers = queries.workers_seen(connection, at, _EACH)
    queues = []
    for name, title in _NAMES.items():
        kind = settings.headers if name == "headers" else settings.content
        limits = [f"{kind.each} for each worker"]
        limits += [f"{kind.together} in all workers"] if kind.together is not None else []
        limits.append(f"{settings.sources.per_host} of one host")
        counts = standing[name]
        queues.append(
            {
                "name": name,
                "title": title,
                "counts": f"{number(counts['running'])} running, {number(counts['queued'])} waiting",
                "limits": "at once: " + ", ".join(limits),
                "rows": [
                    {
                        "place": place,
                        "id": row.id,
                        "source": row.source,
                        "depth": row.depth,
                        "priority": row.priority,
                        "asked": views.when(row.created_at, at),
                        "why": _why(row.attempt, row.due_at - at, row.cause),
                    }
                    for place, row in _placed(waiting[name])
                ],
                "more": plural(counts["queued"] - len(waiting[name]), "more audit waits", "more audits wait")
                if counts["queued"] > len(waiting[name])
                else "",
            }
        )
    return page(
        "queue.html",
        caller=caller,
        at="queue",
        queues=queues,
        running=[
            {
                "id": row.id,
                "source": row.source,
                "depth": row.depth,
                "worker": row.worker,
                "took": views.lasted(row.started_at, at),
                "progress": _progress(row.progress),
            }
            for row in running
        ],
        workers=[
            {
                "id": row.id,
                "host": row.host,
                "tool": row.tool,
                "begun": views.when(row.started_at, at),
                "seen": views.when(row.seen_at, at),
                "ended": row.ended,
                "tries": number(row.tries),
            }
            for row in workers
        ],
        lives=any(row.ended is None for row in workers),
    )


def _placed(rows: Sequence[Row[Any]]) -> Iterator[tuple[str, Row[Any]]]:
    """Each with its place; what waits for a time has none, and takes none."""
    places = count(1)
    return (("–" if row.job is None else number(next(places)), row) for row in rows)


def _why(attempt: int, due: int, cause: str | None) -> str:
    """What an audit waits for."""
    if attempt == 1 or due <= 0:
        return "its turn"
    return f"attempt {attempt}, {views.within(due)}, after {cause or 'a failure'}"


def _progress(text: str | None) -> str:
    found = progress_of(text)
    return "begun" if found is None else str(views.progress(found)["words"])
