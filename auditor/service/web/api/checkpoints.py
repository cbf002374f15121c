"""Checkpoints: every source that was audited, with its history."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from auditor.service.audits import lookup
from auditor.service.web.api.audits import page_of_audits
from auditor.service.web.callers import Reader
from auditor.service.web.models import (
    AuditFilters,
    AuditPage,
    Checkpoint,
    CheckpointFilters,
    CheckpointPage,
    Id,
    PageQuery,
    checkpoint_of,
)
from auditor.service.web.paging import Pages
from auditor.service.web.problems import NotFoundProblem, documented
from auditor.service.web.state import state_of

router = APIRouter(prefix="/v1/checkpoints", tags=["checkpoints"])


@router.get("", operation_id="list_checkpoints", responses=documented(400))
def list_checkpoints(request: Request, _: Reader, filters: Annotated[CheckpointFilters, Query()]) -> CheckpointPage:
    """Checkpoints, those first whose latest audit finished last."""
    pages = Pages(request, "checkpoints", filters.source)
    after = pages.after(filters.next)
    with state_of(request).database.read() as connection:
        if filters.source is None:
            rows = lookup.checkpoints_listed(connection, after=after, most=filters.limit)
        else:
            found = lookup.checkpoint_of(connection, filters.source)
            rows = [] if found is None or after is not None else [found]
    following = pages.next(rows, filters.limit, "latest_at") if filters.source is None else None
    return CheckpointPage(items=[checkpoint_of(row) for row in rows], next=following)


@router.get("/{checkpoint}", operation_id="get_checkpoint", responses=documented(404))
def get_checkpoint(request: Request, _: Reader, checkpoint: Id) -> Checkpoint:
    """A checkpoint with its latest audit."""
    with state_of(request).database.read() as connection:
        row = lookup.checkpoint(connection, checkpoint)
    if row is None:
        raise NotFoundProblem
    return checkpoint_of(row)


@router.get("/{checkpoint}/audits", operation_id="list_checkpoint_audits", responses=documented(400, 404))
def list_checkpoint_audits(
    request: Request, _: Reader, checkpoint: Id, filters: Annotated[PageQuery, Query()]
) -> AuditPage:
    """A checkpoint's history, the latest audit first."""
    with state_of(request).database.read() as connection:
        if lookup.checkpoint(connection, checkpoint) is None:
            raise NotFoundProblem
    return page_of_audits(request, AuditFilters(checkpoint=checkpoint, limit=filters.limit, next=filters.next))
