"""Audits: asked for, listed, shown, cancelled, made again, pinned."""

import hashlib
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection, select, update

from auditor.service.access import admission
from auditor.service.access.rates import TooManyError
from auditor.service.audits import lookup
from auditor.service.audits.life import KeyReusedError, QueueFullError
from auditor.service.audits.order import Order
from auditor.service.logs import note
from auditor.service.store.tables import FINAL, audits
from auditor.service.web.callers import Caller, Reader, Submitter, admitted
from auditor.service.web.models import (
    Attempt,
    Audit,
    AuditFilters,
    AuditPage,
    AuditRequest,
    Id,
    attempt_of,
    audit_of,
)
from auditor.service.web.paging import Pages
from auditor.service.web.problems import (
    ConflictProblem,
    ForbiddenProblem,
    InvalidProblem,
    NotFoundProblem,
    TooManyProblem,
    documented,
)
from auditor.service.web.state import State, state_of
from auditor.service.web.strict import StrictRoute

router = APIRouter(prefix="/v1/audits", tags=["audits"], route_class=StrictRoute)

_QUEUE_AGAIN_S = 60
_LOOK_AGAIN_S = "2"
_ACCEPTED = {
    "description": "Accepted, and not yet final.",
    "headers": {
        "Location": {"description": "Where the audit is.", "schema": {"type": "string"}, "required": True},
        "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}, "required": True},
    },
}
_FINAL = {"model": Audit, "description": "Final within the time that was waited."}
Key = Annotated[
    str | None,
    Header(
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="Makes a repetition the same audit, where the body is the same too.",
        examples=["4b3f0c9e"],
    ),
]
Wait = Annotated[int, Query(ge=0, le=60, description="Seconds to wait for a final state.")]


@router.post(
    "",
    operation_id="submit_audit",
    response_model=Audit,
    status_code=202,
    responses={202: _ACCEPTED, 200: _FINAL, **documented(400, 413, 415)},
)
async def submit_audit(
    request: Request, caller: Submitter, asked: AuditRequest, idempotency_key: Key = None, wait: Wait = 0
) -> Response:
    """Ask for an audit; an equal request that is not yet final, or one under the same key, is the same audit."""
    if asked.policy_text is not None and not caller.may("admin"):
        raise ForbiddenProblem("a policy's text in a request needs the scope admin: give the name of one")
    body = asked.model_dump_json() if idempotency_key is not None else None
    state = state_of(request)

    def order(connection: Connection) -> Order:
        return admission.admit(connection, state.installation.settings, **asked.model_dump())

    return await _accepted(request, caller, order, idempotency_key, body, wait)


@router.get("", operation_id="list_audits", responses=documented(400))
def list_audits(request: Request, _: Reader, filters: Annotated[AuditFilters, Query()]) -> AuditPage:
    """Audits, those first that were asked for last."""
    return page_of_audits(request, filters)


def page_of_audits(request: Request, filters: AuditFilters) -> AuditPage:
    """A page of the list that filters make."""
    state = state_of(request)
    wanted = lookup.Filters(
        state=filters.state,
        verdict=filters.verdict,
        depth=filters.depth,
        checkpoint=filters.checkpoint,
        source=filters.source,
        since=None if filters.since is None else int(filters.since.timestamp() * 1000),
        until=None if filters.until is None else int(filters.until.timestamp() * 1000),
    )
    pages = Pages(request, "audits", wanted)
    after = pages.after(filters.next)
    with state.database.read() as connection:
        rows = lookup.listed(connection, wanted, after=after, most=filters.limit)
    # A place in the queue takes a count for each: the audit itself has it.
    return AuditPage(items=[audit_of(row, None) for row in rows], next=pages.next(rows, filters.limit, "created_at"))


@router.get("/{audit}", operation_id="get_audit", response_model=Audit, responses=documented(404))
def get_audit(request: Request, audit: Id) -> Response:
    """An audit as it is now."""
    # What is asked for most waits for a thread once, and is not validated again on its way out.
    admitted(request, "read")
    return Response(shown(state_of(request), audit).model_dump_json(), media_type="application/json")


@router.post("/{audit}/cancel", operation_id="cancel_audit", responses=documented(404, 409))
def cancel_audit(request: Request, _: Submitter, audit: Id) -> Audit:
    """End an audit that is queued or running; it never comes back."""
    state = state_of(request)
    became = state.installation.audits.cancel(audit)
    if became is None:
        raise NotFoundProblem
    if became != "cancelled":
        raise ConflictProblem(f"it has {became}")
    return shown(state, audit)


@router.post(
    "/{audit}/rerun",
    operation_id="rerun_audit",
    response_model=Audit,
    status_code=202,
    responses={202: _ACCEPTED, 200: _FINAL, **documented(404, 409)},
)
async def rerun_audit(
    request: Request, caller: Submitter, audit: Id, idempotency_key: Key = None, wait: Wait = 0
) -> Response:
    """Ask for the same once more, with the named policy as it is now, whatever was found before."""
    state = state_of(request)

    def order(connection: Connection) -> Order:
        row = connection.execute(select(audits).where(audits.c.id == audit)).one_or_none()
        if row is None:
            raise NotFoundProblem
        if row.state not in FINAL:
            raise ConflictProblem(f"it is {row.state}")
        return admission.again(connection, state.installation.settings, row)

    body = f"rerun {audit}" if idempotency_key is not None else None
    return await _accepted(request, caller, order, idempotency_key, body, wait)


@router.put("/{audit}/pin", operation_id="pin_audit", responses=documented(404))
def pin_audit(request: Request, _: Submitter, audit: Id) -> Audit:
    """Have retention pass an audit over."""
    return _pin(state_of(request), audit, True)


@router.delete("/{audit}/pin", operation_id="unpin_audit", responses=documented(404))
def unpin_audit(request: Request, _: Submitter, audit: Id) -> Audit:
    """Have retention treat an audit as any other."""
    return _pin(state_of(request), audit, False)


@router.get("/{audit}/attempts", operation_id="list_attempts", responses=documented(404))
def list_attempts(request: Request, _: Reader, audit: Id) -> list[Attempt]:
    """Every attempt at an audit, the first one first."""
    with state_of(request).database.read() as connection:
        if lookup.audit(connection, audit) is None:
            raise NotFoundProblem
        return [attempt_of(row) for row in lookup.tries(connection, audit)]


@router.get(
    "/{audit}/attempts/{n}/log",
    operation_id="get_attempt_log",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **documented(404)},
)
def get_attempt_log(request: Request, _: Reader, audit: Id, n: Annotated[int, Path(ge=1, le=1_000_000)]) -> Response:
    """What an attempt's process wrote, also while it runs: the beginning and the end of it."""
    with state_of(request).database.read() as connection:
        log = lookup.log(connection, audit, n)
    if log is None:
        raise NotFoundProblem
    return Response(log, media_type="text/plain")


def shown(state: State, audit: str) -> Audit:
    """An audit as it is now. Raises NotFoundProblem."""
    with state.database.read() as connection:
        row = lookup.audit(connection, audit)
        if row is None:
            raise NotFoundProblem
        return audit_of(row, lookup.place(connection, row))


async def _accepted(
    request: Request, caller: Caller, make: Callable[[Connection], Order], key: str | None, body: str | None, wait: int
) -> Response:
    """Submit an order, and answer with the audit as it is then, or after a wait for a final state."""
    state = state_of(request)
    audit = await run_in_threadpool(_submit, state, caller, make, key, body)
    note(request.scope, audit=audit.id)
    if wait and audit.state not in FINAL:
        await _wait(state, caller, audit.id, wait)
        audit = await run_in_threadpool(shown, state, audit.id)
    ends = {} if audit.state in FINAL else {"Retry-After": _LOOK_AGAIN_S}
    return Response(
        audit.model_dump_json(),
        202 if ends else 200,
        {"Location": audit.links.self, **ends},
        media_type="application/json",
    )


def page_of(accepted: Response) -> str:
    """Where people look at an audit that was accepted."""
    return accepted.headers["Location"].removeprefix("/v1")


def _submit(
    state: State, caller: Caller, make: Callable[[Connection], Order], key: str | None, body: str | None
) -> Audit:
    try:
        with state.database.read() as connection:
            order = make(connection)
        digest = None if body is None else hashlib.sha256(body.encode()).hexdigest()
        audit = state.installation.audits.submit(order, token=caller.id, key=key, body=digest).audit
    except admission.RefusedError as error:
        raise InvalidProblem(**{f"body__{error.field}": error.reason}) from None
    except KeyReusedError:
        raise InvalidProblem(**{"header__idempotency-key": "stands for another request"}) from None
    except QueueFullError:
        raise TooManyProblem("as many audits wait as the settings allow", _QUEUE_AGAIN_S) from None
    return shown(state, audit)


async def _wait(state: State, caller: Caller, audit: str, seconds: int) -> None:
    try:
        watching = state.watch.open(caller.known_as, audit)
    except TooManyError:
        return  # the audit is accepted, and can be asked about
    try:
        await watching.final(seconds)
    finally:
        watching.close()


def _pin(state: State, audit: str, pinned: bool) -> Audit:
    with state.database.write() as connection:
        connection.execute(
            update(audits)
            .where(audits.c.id == audit, audits.c.pinned.is_distinct_from(pinned))
            .values(pinned=pinned, version=audits.c.version + 1)
        )
    return shown(state, audit)
