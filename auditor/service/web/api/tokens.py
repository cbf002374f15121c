"""API tokens: made, listed, revoked by an administrator. A token itself is shown once."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row

from auditor.service.access.tokens import Scope
from auditor.service.web.callers import Admin
from auditor.service.web.models import Asked, Id, PageQuery, Plain, Time, moment, when
from auditor.service.web.paging import Pages
from auditor.service.web.problems import NotFoundProblem, documented
from auditor.service.web.state import state_of
from auditor.service.web.strict import StrictRoute

router = APIRouter(prefix="/v1/tokens", tags=["tokens"], route_class=StrictRoute)


class TokenRequest(Asked):
    """What a token is for, what it may, and for how long."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "ci", "scopes": ["submit"], "days": 90}]})

    name: Plain = Field(min_length=1, max_length=100)
    scopes: list[Scope] = Field(min_length=1, max_length=3, description="`submit` holds `read`, `admin` holds both.")
    days: int | None = Field(default=None, ge=1, le=36500, description="Good for so long; until revoked where absent.")


class Token(BaseModel):
    """A token, without itself."""

    id: str
    name: str
    scopes: list[Scope]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    last_used_at: Time | None = Field(description="To the minute.")


class NewToken(Token):
    """A token that was just made, with itself."""

    token: str = Field(description="Shown this once.", examples=["audtk_…"])


class TokenPage(BaseModel):
    """Some tokens, and the cursor of those that follow."""

    items: list[Token]
    next: str | None


@router.post("", operation_id="create_token", status_code=201, responses=documented(400, 413, 415))
def create_token(request: Request, _: Admin, asked: TokenRequest) -> NewToken:
    """Make a token; it is in this answer, and nowhere else."""
    tokens = state_of(request).tokens
    issued = tokens.create(asked.name, asked.scopes, days=asked.days)
    row = tokens.one(issued.id)
    assert row is not None
    return NewToken(**_shown(row), token=issued.token)


@router.get("", operation_id="list_tokens", responses=documented(400))
def list_tokens(request: Request, _: Admin, query: Annotated[PageQuery, Query()]) -> TokenPage:
    """Every token, the newest first, those that are no longer good included."""
    rows, following = Pages(request, "tokens").by_id(state_of(request).tokens.every, query)
    return TokenPage(items=[Token(**_shown(row)) for row in rows], next=following)


@router.delete("/{token}", operation_id="revoke_token", status_code=204, responses=documented(404))
def revoke_token(request: Request, _: Admin, token: Id) -> None:
    """End a token at once, and the sessions of whoever signed in with it."""
    if not state_of(request).tokens.revoke(token):
        raise NotFoundProblem


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "scopes": row.scopes.split(","),
        "created_at": moment(row.created_at),
        "expires_at": when(row.expires_at),
        "revoked_at": when(row.revoked_at),
        "last_used_at": when(row.last_used_at),
    }
