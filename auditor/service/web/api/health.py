"""Whether the process lives, and whether it can do what it is there for."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from auditor.service.store.database import now
from auditor.service.store.tables import workers
from auditor.service.web.problems import documented
from auditor.service.web.state import State, state_of

router = APIRouter(tags=["health"])
_SEEN_MS = 60_000
_NO_REPORT = "0" * 64
Part = Literal["ok", "away"]


class Lives(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Each part that the service needs."""

    database: Part
    store: Part
    worker: Part


@router.get("/healthz", operation_id="get_health", responses=documented(everywhere=(500,)))
async def healthz() -> Lives:
    """Answer whenever the process can."""
    return Lives()


@router.get(
    "/readyz",
    operation_id="get_readiness",
    responses={503: {"model": Ready, "description": "A part is away."}, **documented(everywhere=(500,))},
)
def readyz(request: Request, response: Response) -> Ready:
    """Say whether the database, the store and a worker are there; 503 where one is not."""
    state = state_of(request)
    database, worker = _database(state)
    ready = Ready(database=database, store=_store(state), worker=worker)
    if "away" in (ready.database, ready.store, ready.worker):
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return ready


def _database(state: State) -> tuple[Part, Part]:
    try:
        with state.database.read() as connection:
            seen = connection.execute(
                select(workers.c.id)
                .where(workers.c.ended.is_(None), workers.c.seen_at > now(connection) - _SEEN_MS)
                .limit(1)
            ).first()
    except SQLAlchemyError:
        return "away", "away"
    return "ok", "away" if seen is None else "ok"


def _store(state: State) -> Part:
    try:
        state.installation.reports.get(_NO_REPORT)
    except OSError:
        return "away"
    return "ok"
