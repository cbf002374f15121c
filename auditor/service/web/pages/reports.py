"""The report of an audit, and what changed between two, as the documents that the command writes."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from auditor.service.web.api.reports import Known, answer, answer_difference
from auditor.service.web.callers import Reader
from auditor.service.web.models import ID, Id
from auditor.service.web.rendering import KINDS, reported
from auditor.service.web.state import state_of
from auditor_schemas.report import AuditReport

router = APIRouter(include_in_schema=False)
Which = Annotated[str, Query(pattern=ID)]


@router.get("/audits/{audit}/report")
async def report(request: Request, _: Reader, audit: Id, known: Known = None) -> Response:
    """The report as its own page, with the way back to the checkpoint."""
    above = await _checkpoint(request, audit)

    def made(data: bytes, _: str) -> bytes:
        from auditor_reports.html import render  # not before the first report is shown: the start is held up less

        return render(AuditReport.model_validate_json(data), above=above).encode()

    return await answer(request, audit, known, "page", KINDS["html"], made)


@router.get("/compare")
async def compare(request: Request, _: Reader, old: Which, new: Which) -> Response:
    """What changed from one audit's report to another's."""
    above = await _checkpoint(request, new)
    return await answer_difference(request, old, new, "html", above=above)


async def _checkpoint(request: Request, audit: str) -> str:
    """The address of the history that a finished audit is in."""
    row = await run_in_threadpool(reported, state_of(request), audit)
    return f"/checkpoints/{row.checkpoint}"
