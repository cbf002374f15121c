"""Checkpoints by their latest verdict, and the history of each."""

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from auditor.service.audits import lookup
from auditor.service.store.database import now
from auditor.service.web.callers import Reader
from auditor.service.web.models import Id, Plain
from auditor.service.web.pages import queries, views
from auditor.service.web.pages.document import page
from auditor.service.web.paging import Pages
from auditor.service.web.problems import NotFoundProblem
from auditor.service.web.state import state_of
from auditor_reports.text import number, plural

router = APIRouter(include_in_schema=False)
_EACH = 50
Text = Annotated[Plain, Query(max_length=200)]
Cursor = Annotated[str, Query(alias="next", max_length=1000)]
Verdict = Literal["", "passed", "failed", "incomplete", "none"]


@router.get("/")
def dashboard(
    request: Request, caller: Reader, text: Text = "", verdict: Verdict = "", cursor: Cursor = ""
) -> HTMLResponse:
    """Checkpoints, those first whose audit finished last."""
    words = text.lower().split()
    pages = Pages(request, "dashboard", words, verdict)
    after = pages.after(cursor or None)
    with state_of(request).database.read() as connection:
        rows = lookup.checkpoints_listed(connection, after=after, most=_EACH, words=words, verdict=verdict or None)
        ids = [row.id for row in rows]
        counts = queries.verdicts(connection)
        histories = queries.histories(connection, ids)
        last = queries.in_vain(connection, [row.id for row in rows if row.latest_audit is None])
        last |= queries.under_way(connection, ids)
        at = now(connection)
    return page(
        "dashboard.html",
        caller=caller,
        at="checkpoints",
        rows=[views.checkpoint(row, at, histories[row.id], last.get(row.id)) for row in rows],
        text=text,
        verdict=verdict,
        choices=_choices(counts, text, verdict),
        total=plural(sum(counts.values()), "checkpoint"),
        any=bool(counts),
        next=following("/", pages.next(rows, _EACH, "latest_at"), text=text, verdict=verdict),
        first=following("/", "", text=text, verdict=verdict) if cursor else None,
    )


@router.get("/checkpoints/{checkpoint}")
def history(request: Request, caller: Reader, checkpoint: Id, cursor: Cursor = "") -> HTMLResponse:
    """One checkpoint with all of its audits, the latest first."""
    state = state_of(request)
    filters = lookup.Filters(checkpoint=checkpoint)
    pages = Pages(request, "history", filters)
    after = pages.after(cursor or None)
    with state.database.read() as connection:
        row = lookup.checkpoint(connection, checkpoint)
        if row is None:
            raise NotFoundProblem
        rows = lookup.listed(connection, filters, after=after, most=_EACH)
        latest = None if row.latest_audit is None else lookup.audit(connection, row.latest_audit)
        verdicts, at = queries.histories(connection, [checkpoint])[checkpoint], now(connection)
    place = f"/checkpoints/{checkpoint}"
    public = (state.installation.settings.public_url or str(request.base_url)).rstrip("/")
    shown = [views.audit(each, at) for each in rows]
    reported = [each["id"] for each in shown if each["finished"]]
    return page(
        "checkpoint.html",
        caller=caller,
        at="checkpoints",
        source=row.source,
        place=place,
        latest=None if latest is None else views.audit(latest, at),
        rows=shown,
        # What is compared unless something else is chosen: the latest report with the one before.
        new=reported[0] if len(reported) > 1 else None,
        old=reported[1] if len(reported) > 1 else None,
        history=[views.verdict(each) for each in reversed(verdicts)],
        public=f"{public}{place}",
        again=f"/audits/new?{urlencode({'source': row.source})}",
        next=following(place, pages.next(rows, _EACH, "created_at")),
        first=place if cursor else None,
    )


def following(place: str, cursor: str | None, **filters: str) -> str | None:
    """The address of a page of a list; None where nothing follows."""
    if cursor is None:
        return None
    given = {name: value for name, value in {**filters, "next": cursor}.items() if value}
    return f"{place}?{urlencode(given)}" if given else place


def _choices(counts: dict[str, int], text: str, chosen: str) -> list[dict[str, Any]]:
    """The verdicts that the list can be narrowed to."""
    return [
        {
            "place": following("/", "", text=text, verdict=word),
            "standing": views.verdict(word) if word else None,
            "count": number(counts.get(word, 0) if word else sum(counts.values())),
            "chosen": word == chosen,
        }
        for word in ("", "passed", "failed", "incomplete", "none")
    ]
