"""Whatever goes wrong, answered as a problem (RFC 9457) that echoes no request and shows no exception."""

import logging
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_problem.error import Problem, StatusProblem
from fastapi_problem.handler import ExceptionHandler, add_exception_handler, new_exception_handler
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette_problem.handler import PostHook

from auditor.service.access.keys import TamperedError
from auditor.service.access.rates import TooManyError
from auditor.service.store.database import away, first_line
from auditor.service.web.headers import SECURITY
from auditor.text import shown

AGAIN_S = 5
_FIELD = 64  # characters of a field's name, which may be the request's own
_FIELDS = 20
_log = logging.getLogger(__name__)


class FieldFault(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(examples=["body.source"])
    message: str = Field(examples=["file:// is not among the sources that can be read"])


class ProblemBody(BaseModel):
    """A problem as RFC 9457 has it. `errors` names fields of a 422, `id` finds a 500 in the log."""

    type: str = Field(examples=["not-found"])
    title: str = Field(examples=["There is no such thing"])
    status: int = Field(examples=[404], ge=400, le=599)
    detail: str | None = None
    errors: list[FieldFault] | None = None
    id: str | None = None


class BadRequestProblem(StatusProblem):
    """What came is not what HTTP or JSON has."""

    status, type_, title = 400, "malformed", "The request cannot be read"


class UnauthorizedProblem(StatusProblem):
    """No token, or none that is good."""

    status, type_, title = 401, "unauthorized", "A good token is needed"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Bearer realm="auditor"'})


class ForbiddenProblem(StatusProblem):
    """The token's scope does not hold this, or another site asked."""

    status, type_, title = 403, "forbidden", "This token may not do that"


class NotFoundProblem(StatusProblem):
    """There is nothing of that name."""

    status, type_, title = 404, "not-found", "There is no such thing"


class ConflictProblem(StatusProblem):
    """It is there, in a state in which this cannot be."""

    status, type_, title = 409, "conflict", "Its state does not allow that"


class InvalidProblem(StatusProblem):
    """The request can be read, and says what cannot be."""

    status, type_, title = 422, "invalid", "The request is not valid"

    def __init__(self, **faults: str) -> None:
        """`faults` by the field's name, dots as two underscores."""
        errors = [{"field": name.replace("__", "."), "message": text} for name, text in faults.items()]
        super().__init__(errors=errors)


class TooManyProblem(StatusProblem):
    """More than the settings allow, for now."""

    status, type_, title = 429, "too-many", "Too many requests"

    def __init__(self, detail: str, again_s: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(again_s)})


class UnavailableProblem(StatusProblem):
    """The database or the store cannot be had just now."""

    status, type_, title = 503, "unavailable", "The service cannot answer just now"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": str(AGAIN_S)})


class UnexpectedProblem(StatusProblem):
    """We are wrong; the log has the rest under the id."""

    status, type_, title = 500, "unexpected", "Something unexpected went wrong"


_TITLES = {
    404: NotFoundProblem.title,
    405: "This address does not take that method",
    413: "The request is too long",
    415: "The request is of another content type",
}
_TYPES = {404: "not-found", 405: "method", 413: "too-long", 415: "content-type"}
_WORDS = {
    400: "What was sent cannot be read.",
    401: "No token, or an unknown, expired or revoked one.",
    403: "The token's scope does not hold this.",
    404: "There is nothing of that id.",
    409: "Its state does not allow that.",
    413: "Longer than the service takes.",
    415: "Of another content type than JSON.",
    422: "A field says what cannot be; `errors` names it.",
    429: "Too many requests, or too many audits that wait.",
    500: "Something unexpected; the log has it under `id`.",
    503: "The database or the store cannot be had just now.",
}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_EVERYWHERE = (401, 403, 422, 429, 500, 503)


def documented(*statuses: int, everywhere: Iterable[int] = _EVERYWHERE) -> dict[int | str, dict[str, Any]]:
    """The problems that an operation may answer with, those of all operations included, for its `responses`."""
    return {status: _response(status) for status in sorted({*statuses, *everywhere})}


def _response(status: int) -> dict[str, Any]:
    headers = {"Retry-After": _AFTER} if status in (429, 503) else {}
    return {
        "description": _WORDS[status],
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}},
        **({"headers": headers} if headers else {}),
    }


_AFTER = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}, "required": True}


def install(app: FastAPI, *shown: PostHook[Any]) -> None:
    """Have the application answer every error as a problem, `shown` otherwise to whoever is no program."""
    handler = new_exception_handler(
        logger=None,
        handlers={
            Problem: lambda _, __, problem: problem,
            HTTPException: _http,
            RequestValidationError: _invalid,
            TooManyError: lambda _, __, error: TooManyProblem("more than the settings allow", error.again_s),
            TamperedError: lambda _, __, ___: BadRequestProblem("cursor: none of this list's"),
            SQLAlchemyError: _database,
            Exception: _unexpected,
        },
        http_exception_handler=_http,
        request_validation_handler=_invalid,
        post_hooks=[*shown, _secured],
    )
    for kind in (TooManyError, TamperedError, SQLAlchemyError):
        app.add_exception_handler(kind, handler)
    add_exception_handler(app, handler, generic_swagger_defaults=False)


def _http(_: ExceptionHandler, request: Request, error: HTTPException) -> Problem:
    status, headers = error.status_code, dict(error.headers or {})
    if status == 405:
        headers["Allow"] = ", ".join(_allowed(request))
    return Problem(
        title=_TITLES.get(status, "The request cannot be answered"),
        type_=_TYPES.get(status, "malformed"),
        status=status,
        headers=headers,
    )


def _allowed(request: Request) -> list[str]:
    """The methods of an address: each operation is a route of its own, and knows its own alone."""
    scopes = ({**request.scope, "method": each} for each in _METHODS)
    routes = request.app.routes
    return [scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def _invalid(_: ExceptionHandler, __: Request, error: RequestValidationError) -> Problem:
    """Names each field and what is wrong with it; never what was sent."""
    errors = error.errors()
    if any(each["type"] == "json_invalid" for each in errors):
        return BadRequestProblem("the body is not JSON that every reader reads alike")
    faults = [{"field": _field(each["loc"]), "message": _message(each)} for each in errors[:_FIELDS]]
    return Problem(title=InvalidProblem.title, type_=InvalidProblem.type_, status=422, errors=faults)


def _field(loc: Iterable[Any]) -> str:
    return ".".join(shown(str(each))[:_FIELD] for each in list(loc)[:8])


def _message(error: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":  # one of our own
        return str(error["ctx"]["error"])
    return str(error["msg"]).lower()


def _database(_: ExceptionHandler, request: Request, error: SQLAlchemyError) -> Problem:
    if not away(error):
        return _unexpected(_, request, error)
    _log.warning("the database does not answer: %s", first_line(error))
    return UnavailableProblem("the database does not answer")


def _unexpected(_: ExceptionHandler, request: Request, error: Exception) -> Problem:
    id = secrets.token_hex(8)  # noqa: A001  # what it is for whoever reads the answer
    _log.error("unexpected error %s: %s %s", id, request.method, shown(request.url.path), exc_info=error)
    return UnexpectedProblem(id=id)


def _secured(content: dict[str, Any], _: Request, response: Any) -> tuple[dict[str, Any], Any]:
    """The headers of every answer, for those that are made outside of what adds them."""
    for name, value in SECURITY.items():
        response.headers.setdefault(name, value)
    return content, response
