"""Whether the process lives, and whether it can do what it is there for."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from auditor.service.web.problems import documented
from auditor.service.web.readiness import Part
from auditor.service.web.state import state_of

router = APIRouter(tags=["health"])


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
    """Say whether the database, the store and a worker are there, as of a second ago; 503 where one is not."""
    ready = state_of(request).readiness.now()
    if "away" in ready:
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return Ready(**ready._asdict())
