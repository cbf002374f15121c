"""Audits: listed, each with where it is and why, and what can be done about it."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import Connection, Row
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditor.service.audits import lookup
from auditor.service.settings import Settings
from auditor.service.store.database import now
from auditor.service.web.api import audits as api
from auditor.service.web.callers import Reader, Submitter
from auditor.service.web.models import Id, Plain, audit_of
from auditor.service.web.pages import queries, views
from auditor.service.web.pages.dashboard import Cursor, following
from auditor.service.web.pages.document import page
from auditor.service.web.paging import Pages
from auditor.service.web.problems import ConflictProblem, NotFoundProblem
from auditor.service.web.state import state_of
from auditor_reports.text import plural

router = APIRouter(include_in_schema=False)
_EACH = 50
_LAST = 30  # attempts that are shown of one audit
State = Literal["", "queued", "running", "finished", "failed", "cancelled"]
Source = Annotated[Plain, Query(max_length=2000)]
# What the API has a report in, and what people call it.
_FORMATS = (
    ("JSON", "report"),
    ("SARIF", "report.sarif"),
    ("JUnit", "report.junit.xml"),
    ("Markdown", "report.md"),
    ("CSV", "report.csv.zip"),
)


@router.get("/audits")
def every(
    request: Request, caller: Reader, state: State = "", source: Source = "", cursor: Cursor = ""
) -> HTMLResponse:
    """Audits, those first that were asked for last."""
    filters = lookup.Filters(state=(state,) if state else (), source=source or None)
    pages = Pages(request, "audits page", filters)
    after = pages.after(cursor or None)
    with state_of(request).database.read() as connection:
        rows = lookup.listed(connection, filters, after=after, most=_EACH)
        at = now(connection)
    return page(
        "audits.html",
        caller=caller,
        at="audits",
        rows=[views.audit(row, at) for row in rows],
        source=source,
        state=state,
        choices=[
            {"place": following("/audits", "", state=word, source=source), "word": said, "chosen": word == state}
            for word, said in _STATES.items()
        ],
        next=following("/audits", pages.next(rows, _EACH, "created_at"), state=state, source=source),
        first=following("/audits", "", state=state, source=source) if cursor else None,
    )


_STATES = {
    "": "All",
    "queued": "Waiting",
    "running": "Running",
    "finished": "With a report",
    "failed": "No report",
    "cancelled": "Cancelled",
}


@router.get("/audits/{audit}")
def one(request: Request, caller: Reader, audit: Id) -> HTMLResponse:
    """An audit as it is now; while it is not final, the page goes on to tell."""
    state = state_of(request)
    settings = state.installation.settings
    with state.database.read() as connection:
        row = lookup.audit(connection, audit)
        if row is None:
            raise NotFoundProblem
        at = now(connection)
        tries = lookup.tries(connection, audit)
        log = lookup.log(connection, audit, tries[-1].n) if tries else None
        waits = _waits(connection, row, settings, at) if row.state == "queued" else []
        place = lookup.place(connection, row)
        before = queries.report_before(connection, row) if row.state == "finished" else None
    found = audit_of(row, place)
    moving = found.progress
    return page(
        "audit.html",
        caller=caller,
        at="audits",
        live=row.state in ("queued", "running"),
        audit=views.audit(row, at),
        state=row.state,
        attempt=row.attempt,
        place=place,
        seconds=0 if row.started_at is None else (at - row.started_at) // 1000,
        waits=waits,
        cause=row.cause,
        progress=None if moving is None else views.progress(moving),
        tries=[_tried(each, at) for each in reversed(tries[-_LAST:])],
        more=plural(len(tries) - _LAST, "earlier attempt") if len(tries) > _LAST else "",
        log=log,
        facts=_facts(row, at),
        formats=[(name, f"/v1/audits/{audit}/{end}") for name, end in _FORMATS] if row.report else [],
        before=before,
    )


@router.get("/audits/{audit}/attempts/{n}")
def attempt(request: Request, caller: Reader, audit: Id, n: Annotated[int, Path(ge=1, le=1_000_000)]) -> HTMLResponse:
    """One attempt with what its process wrote."""
    with state_of(request).database.read() as connection:
        row = lookup.audit(connection, audit)
        tried = next((each for each in lookup.tries(connection, audit) if each.n == n), None)
        if row is None or tried is None:
            raise NotFoundProblem
        log, at = lookup.log(connection, audit, n), now(connection)
    return page(
        "attempt.html", caller=caller, at="audits", audit=views.audit(row, at), tried=_tried(tried, at), log=log or ""
    )


@router.post("/audits/{audit}/cancel")
def cancel(request: Request, caller: Submitter, audit: Id) -> Response:
    """End an audit; one that has ended meanwhile is shown as it is."""
    try:
        api.cancel_audit(request, caller, audit)
    except ConflictProblem:
        pass
    return RedirectResponse(f"/audits/{audit}", 303)


@router.post("/audits/{audit}/rerun")
async def rerun(request: Request, caller: Submitter, audit: Id) -> Response:
    """Ask for the same once more, and go to the audit that answers."""
    return RedirectResponse(api.page_of(await api.rerun_audit(request, caller, audit)), 303)


@router.post("/audits/{audit}/pin")
def pin(request: Request, caller: Submitter, audit: Id) -> Response:
    """Keep an audit whatever its age."""
    api.pin_audit(request, caller, audit)
    return RedirectResponse(f"/audits/{audit}", 303)


@router.post("/audits/{audit}/unpin")
def unpin(request: Request, caller: Submitter, audit: Id) -> Response:
    """Keep it as long as others."""
    api.unpin_audit(request, caller, audit)
    return RedirectResponse(f"/audits/{audit}", 303)


def _waits(connection: Connection, row: Row[Any], settings: Settings, at: int) -> list[str]:
    """Why an audit does not run yet, a sentence each."""
    if not queries.any_worker(connection):
        return ["No worker is running: it waits for one."]
    if row.attempt > 1 and row.due_at > at:
        return [f"Attempt {row.attempt} begins {views.within(row.due_at - at)}, after a pause."]
    kind = settings.headers if row.queue == "headers" else settings.content
    beside = queries.running(connection, queue=row.queue)
    said = [f"{plural(beside, 'runs', 'run')} in the queue {row.queue}; a worker runs {kind.each} at once."]
    if kind.together is not None:
        said.append(f"All workers together run {kind.together} of them at once.")
    of_host, most = queries.running(connection, host=row.host), settings.sources.per_host
    if of_host >= most:
        run, do = (
            plural(of_host, f"audit of {row.host} runs", f"audits of {row.host} run"),
            "does" if most == 1 else "do",
        )
        said.append(f"{run}, and at most {most} {do} at once.")
    return said


def _tried(row: Row[Any], at: int) -> dict[str, Any]:
    """An attempt as the templates print it."""
    return {
        "n": row.n,
        "worker": row.worker,
        "begun": views.when(row.started_at, at),
        "took": views.lasted(row.started_at, row.ended_at or at),
        "ended": row.ended_at is not None,
        "cause": row.cause,
        "reason": row.reason,
        "place": f"/audits/{row.audit}/attempts/{row.n}",
    }


def _facts(row: Row[Any], at: int) -> list[tuple[str, str, bool]]:
    """What was asked for, and what it was done with: name, value, and whether that is for machines."""
    asked = views.when(row.created_at, at)
    facts = [
        ("depth", f"{row.depth}, {views.DEPTHS[row.depth]}", False),
        ("revision", row.revision, True),
        ("commit", row.resolved, True),
        ("policy", row.policy or ("came with the request" if row.policy_sha256 else "none"), False),
        ("policy SHA-256", row.policy_sha256, True),
        ("baseline", row.baseline, True),
        ("family", row.family, False),
        ("seed", None if row.seed is None else str(row.seed), False),
        ("priority", f"{row.priority} of 9", False),
        ("asked for by", row.origin, False),
        ("asked for", f"{asked.date} {asked.time}, {asked.age}", False),
        ("auditor", row.tool, False),
        ("fingerprint", row.fingerprint, True),
        ("report", row.report, True),
    ]
    return [(name, value, coded) for name, value, coded in facts if value]
