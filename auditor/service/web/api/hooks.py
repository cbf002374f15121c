"""Webhooks in: the hub's, GitHub's, and anybody's who signs. Each answers before any network is touched."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from auditor.errors import UsageError
from auditor.service.access.rates import neighbourhood
from auditor.service.audits.life import QueueFullError
from auditor.service.hooks import generic, github, hub
from auditor.service.hooks.asking import Asking
from auditor.service.hooks.incoming import MalformedError, Read
from auditor.service.web.models import ID
from auditor.service.web.problems import (
    InvalidProblem,
    TooManyProblem,
    UnauthorizedProblem,
    documented,
)
from auditor.service.web.state import state_of
from auditor.text import shown

router = APIRouter(prefix="/v1/hooks", tags=["hooks"])

LONGEST = 256 << 10
_AGAIN_S = 60


class HookAudit(BaseModel):
    """An audit that a webhook asked for."""

    id: str = Field(pattern=ID)
    created: bool = Field(description="Whether it is new; false: it was there before.")


class HookAnswer(BaseModel):
    """What became of a webhook."""

    audits: list[HookAudit] = Field(max_length=100)
    ignored: str | None = Field(description="Why nothing, or not all that it names, is audited.")


async def _body(request: Request) -> bytes:
    """The body as it was sent, which is what was signed."""
    said = request.headers.get("content-length", "")
    if said.isdecimal() and len(said) < 20 and int(said) > LONGEST:
        raise HTTPException(413)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LONGEST:
            raise HTTPException(413)
    return bytes(body)


_UNAUTHENTIC = {
    **documented(everywhere=(401,))[401],
    "description": "The secret or the signature is not good, or late, or the hook is off.",
}

Body = Annotated[bytes, Depends(_body)]


def _takes(schema: dict[str, Any], *headers: tuple[str, str]) -> dict[str, Any]:
    return {
        "responses": {
            200: {"model": HookAnswer, "description": "Understood, and nothing is to be audited."},
            **documented(413, 415, everywhere=(401, 422, 429, 500, 503)),
            401: _UNAUTHENTIC,
        },
        "openapi_extra": {
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "parameters": [
                {"in": "header", "name": name, "required": True, "description": text, "schema": {"type": "string"}}
                for name, text in headers
            ],
            "security": [],
        },
        "status_code": 202,
        "response_description": "Accepted: the audits that it asks for.",
    }


def _inline(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema with what it refers to in its place."""
    schema = model.model_json_schema()
    named = schema.pop("$defs", {})

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            reference = value.get("$ref", "")
            return (
                filled(named[reference.rpartition("/")[2]]) if reference else {k: filled(v) for k, v in value.items()}
            )
        return [filled(each) for each in value] if isinstance(value, list) else value

    found: dict[str, Any] = filled(schema)
    return found


_ANYTHING = {"type": "object", "description": "As its sender documents it; what is not known is passed over."}


@router.post("/hub", operation_id="hook_hub", **_takes(_ANYTHING, ("X-Webhook-Secret", "The secret.")))
def hook_hub(request: Request, response: Response, body: Body) -> HookAnswer:
    """Take the Hugging Face hub's webhook: new commits of the refs that the settings name are audited."""
    hook = state_of(request).installation.settings.hooks.hub
    headers = _headers(request)
    return _take(request, response, lambda: hub.authentic(hook, headers), lambda: hub.read(hook, body))


@router.post(
    "/generic",
    operation_id="hook_generic",
    **_takes(
        _inline(generic.GenericBody),
        ("webhook-id", "The same id is the same audit."),
        ("webhook-timestamp", "Seconds since 1970, at most five minutes off."),
        ("webhook-signature", "As Standard Webhooks has it."),
    ),
)
def hook_generic(request: Request, response: Response, body: Body) -> HookAnswer:
    """Take a webhook that is signed as Standard Webhooks, and says what is to be audited."""
    hook = state_of(request).installation.settings.hooks.generic
    headers = _headers(request)
    return _take(
        request,
        response,
        lambda: generic.authentic(hook, headers, body),
        lambda: generic.read(hook, headers, body),
    )


@router.post(
    "/github",
    operation_id="hook_github",
    **_takes(
        _ANYTHING,
        ("X-Hub-Signature-256", "`sha256=` and the body's HMAC."),
        ("X-GitHub-Event", "`push`; others are passed over."),
    ),
)
def hook_github(request: Request, response: Response, body: Body) -> HookAnswer:
    """Take GitHub's webhook: a push to a repository that the settings name means what they say."""
    hook = state_of(request).installation.settings.hooks.github
    headers = _headers(request)
    return _take(
        request, response, lambda: github.authentic(hook, headers, body), lambda: github.read(hook, headers, body)
    )


def _take(request: Request, response: Response, authentic: Callable[[], bool], read: Callable[[], Read]) -> HookAnswer:
    state = state_of(request)
    if not authentic():
        state.rates.count("refusals", neighbourhood(request.client.host if request.client else ""))
        raise UnauthorizedProblem
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415)
    try:
        found = read()
        made = Asking(state.installation).submit(found.asked) if found.asked else []
    except (MalformedError, UsageError) as error:
        raise InvalidProblem(body=shown(str(error))) from None
    except QueueFullError:
        raise TooManyProblem("as many audits wait as the settings allow", _AGAIN_S) from None
    if not made:
        response.status_code = 200
    audits = {each.audit: HookAudit(id=each.audit, created=each.created) for each in reversed(made)}
    return HookAnswer(audits=list(audits.values())[::-1], ignored=found.ignored)


def _headers(request: Request) -> Mapping[str, str]:
    return dict(request.headers.items())
