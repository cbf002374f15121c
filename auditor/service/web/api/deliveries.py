"""Deliveries: what each target was told, what it answered, and the same once more."""

import json
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import Row

from auditor.service.notify.deliveries import Deliveries, Filters
from auditor.service.web.callers import Admin
from auditor.service.web.models import ID, Id, PageQuery, Time, moment, when
from auditor.service.web.paging import Pages
from auditor.service.web.problems import NotFoundProblem, documented
from auditor.service.web.state import state_of

router = APIRouter(prefix="/v1/deliveries", tags=["notifications"])

DeliveryState = Literal["waiting", "delivered", "failed"]


class DeliveryFilters(PageQuery):
    """Which deliveries."""

    target: str | None = Field(default=None, pattern=ID)
    audit: str | None = Field(default=None, pattern=ID)
    state: DeliveryState | None = None


class Delivery(BaseModel):
    """One notification to one target."""

    id: str = Field(pattern=ID)
    target: str = Field(pattern=ID)
    audit: str = Field(pattern=ID)
    origin: str | None = Field(description="What is told of, where that is not the audit as a whole.")
    state: DeliveryState
    tries: int
    created_at: Time
    due_at: Time | None = Field(description="When it is tried next.")
    tried_at: Time | None
    ended_at: Time | None
    status: int | None = Field(description="The HTTP status of the last answer; absent where none came.")
    answer: str | None = Field(description="The first 500 characters of the last answer, or why none came.")


class DeliveryWithBody(Delivery):
    """The same, with what is told."""

    body: dict[str, Any]


class DeliveryPage(BaseModel):
    """Some of the deliveries."""

    items: list[Delivery]
    next: str | None


@router.get("", operation_id="list_deliveries", responses=documented(400))
def list_deliveries(request: Request, _: Admin, wanted: Annotated[DeliveryFilters, Query()]) -> DeliveryPage:
    """Deliveries, the newest first."""
    filters = Filters(target=wanted.target, audit=wanted.audit, state=wanted.state)
    rows, following = Pages(request, "deliveries", filters).by_id(partial(_deliveries(request).every, filters), wanted)
    return DeliveryPage(items=[Delivery(**_told(row)) for row in rows], next=following)


@router.get("/{delivery}", operation_id="get_delivery", responses=documented(404))
def get_delivery(request: Request, _: Admin, delivery: Id) -> DeliveryWithBody:
    """A delivery as it is now, with what is told."""
    return _one(_deliveries(request), delivery)


@router.post("/{delivery}/repeat", operation_id="repeat_delivery", status_code=202, responses=documented(404))
def repeat_delivery(request: Request, _: Admin, delivery: Id) -> DeliveryWithBody:
    """Send a delivery that has ended once more, as the same message."""
    deliveries = _deliveries(request)
    if not deliveries.repeat(delivery):
        raise NotFoundProblem
    return _one(deliveries, delivery)


def _deliveries(request: Request) -> Deliveries:
    return Deliveries(state_of(request).installation)


def _one(deliveries: Deliveries, id: str) -> DeliveryWithBody:  # noqa: A002  # what it is everywhere
    row = deliveries.one(id)
    if row is None:
        raise NotFoundProblem
    return DeliveryWithBody(**_told(row), body=json.loads(row.body))


def _told(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "target": row.target,
        "audit": row.audit,
        "origin": row.origin,
        "state": row.state,
        "tries": row.tries,
        "created_at": moment(row.created_at),
        "due_at": moment(row.due_at) if row.state == "waiting" else None,
        "tried_at": when(row.tried_at),
        "ended_at": when(row.ended_at),
        "status": row.status,
        "answer": row.answer,
    }
