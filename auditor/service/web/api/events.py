"""The events of an audit, as they come."""

import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from auditor.service.web.api.audits import shown
from auditor.service.web.callers import Reader
from auditor.service.web.models import Id
from auditor.service.web.problems import documented
from auditor.service.web.state import state_of
from auditor.service.web.streams import Watching

router = APIRouter(prefix="/v1/audits", tags=["audits"])
_VERSION = re.compile(r"[0-9]{1,10}")  # what is none is nothing that came


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


async def _watching(
    request: Request,
    caller: Reader,
    audit: Id,
    last_event_id: Annotated[str | None, Header(description="The last event that came, to go on from there.")] = None,
) -> AsyncIterator[Watching]:
    state = state_of(request)
    await run_in_threadpool(shown, state, audit)
    seen = int(came[0]) if (came := _VERSION.fullmatch(last_event_id or "")) else 0
    watching = state.watch.open(caller.known_as, audit, token=caller.id, seen=seen)
    try:
        yield watching
    finally:
        watching.close()


@router.get(
    "/{audit}/events",
    operation_id="stream_audit_events",
    response_class=EventStream,
    responses={
        200: {
            "description": "An event `audit` with each change, whose data is the audit and whose id its `version`.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **documented(404),
    },
)
async def stream_audit_events(watching: Annotated[Watching, Depends(_watching)]) -> EventStream:
    """The audit now and with each change, until it is final, the token no longer good, or the service stops."""
    return EventStream(watching.events(), headers={"X-Accel-Buffering": "no"})
