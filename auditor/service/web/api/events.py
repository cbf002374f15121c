"""The events of an audit, as they come."""

import re
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import StreamingResponse

from auditor.service.web.api.audits import shown
from auditor.service.web.callers import Caller, Reader
from auditor.service.web.models import Id
from auditor.service.web.problems import documented
from auditor.service.web.state import State, state_of
from auditor.service.web.streams import Watching

router = APIRouter(prefix="/v1/audits", tags=["audits"])
_VERSION = re.compile(r"[0-9]{1,10}")  # what is none is nothing that came
_JUDGED_S = 15.0


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
    watching = state.watch.open(caller.known_as, audit, seen=seen)
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
async def stream_audit_events(
    request: Request, caller: Reader, watching: Annotated[Watching, Depends(_watching)]
) -> EventStream:
    """The audit now and with each change, until it is final, the token no longer good, or the service stops."""
    return EventStream(_told(state_of(request), caller, watching), headers={"X-Accel-Buffering": "no"})


async def _told(state: State, caller: Caller, watching: Watching) -> AsyncIterator[bytes]:
    """The events, as long as whoever listens may; some come at least as often as that is asked."""
    judged_at = time.monotonic()
    async for event in watching.events():
        if caller.id and time.monotonic() - judged_at >= _JUDGED_S:
            judged_at = time.monotonic()
            if not await run_in_threadpool(_stands, state, caller.id):
                return
        yield event


def _stands(state: State, token: str) -> bool:
    """Whether a token is still good; it is as long as nobody can say."""
    try:
        return state.tokens.holder(token) is not None
    except SQLAlchemyError:
        return True
