"""Watches: checkpoints that are looked at again and again, and audited where they have changed."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import Row

from auditor.errors import UsageError
from auditor.service.audits.order import Depth
from auditor.service.hooks.watches import LEAST_S, MOST_S, Watches
from auditor.service.web.callers import Admin, Reader
from auditor.service.web.models import ID, POLICY, Asked, Id, PageQuery, Plain, Time, moment, when
from auditor.service.web.paging import Pages
from auditor.service.web.problems import InvalidProblem, NotFoundProblem, documented
from auditor.service.web.state import state_of
from auditor.service.web.strict import StrictRoute

router = APIRouter(prefix="/v1/watches", tags=["watches"], route_class=StrictRoute)


class WatchRequest(Asked):
    """What is to be watched."""

    source: Plain = Field(min_length=1, max_length=2000, examples=["hf://org/name"])
    revision: Plain | None = Field(
        default=None, min_length=1, max_length=255, description="A branch or tag of a hub repository."
    )
    every_s: int = Field(default=3600, ge=LEAST_S, le=MOST_S, description="Seconds between two looks.")
    depth: Depth = Field(default="headers", description="How deep is audited what has changed.")
    policy: str | None = Field(default=None, pattern=POLICY, description="The name of a policy.")


class Watch(BaseModel):
    """A watch, and what its last look saw."""

    id: str = Field(pattern=ID)
    source: str
    revision: str | None
    every_s: int
    depth: Depth
    policy: str | None
    created_at: Time
    due_at: Time = Field(description="When it is looked at next.")
    looked_at: Time | None
    commit: str | None = Field(description="What was audited last: a commit, or a digest of what the store says.")
    failures: int = Field(description="Looks in a row that failed; pauses grow with them.")
    reason: str | None = Field(description="Why the last look failed.")


class WatchPage(BaseModel):
    """Some of the watches."""

    items: list[Watch]
    next: str | None


@router.get("", operation_id="list_watches", responses=documented(400))
def list_watches(request: Request, _: Reader, page: Annotated[PageQuery, Query()]) -> WatchPage:
    """Every watch, the first that was added first."""
    rows, following = Pages(request, "watches").by_id(_watches(request).every, page)
    return WatchPage(items=[_watch(row) for row in rows], next=following)


@router.post("", operation_id="add_watch", status_code=201, responses=documented(400, 413, 415))
def add_watch(request: Request, _: Admin, asked: WatchRequest) -> Watch:
    """Watch a checkpoint; it is looked at at once."""
    watches = _watches(request)
    try:
        id = watches.add(**asked.model_dump())  # noqa: A001  # what it is everywhere
    except UsageError as error:
        raise InvalidProblem(body=str(error)) from None
    return _one(watches, id)


@router.get("/{watch}", operation_id="get_watch", responses=documented(404))
def get_watch(request: Request, _: Reader, watch: Id) -> Watch:
    """A watch as it is now."""
    return _one(_watches(request), watch)


@router.post("/{watch}/look", operation_id="look_at_watch", responses=documented(404))
def look_at_watch(request: Request, _: Admin, watch: Id) -> Watch:
    """Have a watch looked at now."""
    watches = _watches(request)
    if not watches.look_now(watch):
        raise NotFoundProblem
    return _one(watches, watch)


@router.delete("/{watch}", operation_id="remove_watch", status_code=204, responses=documented(404))
def remove_watch(request: Request, _: Admin, watch: Id) -> None:
    """Watch a checkpoint no more."""
    if not _watches(request).remove(watch):
        raise NotFoundProblem


def _watches(request: Request) -> Watches:
    return Watches(state_of(request).installation)


def _one(watches: Watches, id: str) -> Watch:  # noqa: A002  # what it is everywhere
    row = watches.one(id)
    if row is None:
        raise NotFoundProblem
    return _watch(row)


def _watch(row: Row[Any]) -> Watch:
    return Watch(
        id=row.id,
        source=row.source,
        revision=row.revision,
        every_s=row.every_s,
        depth=row.depth,
        policy=row.policy,
        created_at=moment(row.created_at),
        due_at=moment(row.due_at),
        looked_at=when(row.looked_at),
        commit=row.commit,
        failures=row.failures,
        reason=row.reason,
    )
