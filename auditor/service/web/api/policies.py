"""Policies by name. Everybody may see which there are; only an administrator sees and changes what they say."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field
from sqlalchemy import Row

from auditor.errors import UsageError
from auditor.service.audits import policies
from auditor.service.web.callers import Admin, Reader
from auditor.service.web.models import POLICY, Asked, Time, moment
from auditor.service.web.problems import ConflictProblem, InvalidProblem, NotFoundProblem, documented
from auditor.service.web.state import state_of
from auditor.service.web.strict import StrictRoute

router = APIRouter(prefix="/v1/policies", tags=["policies"], route_class=StrictRoute)
Name = Annotated[str, Path(pattern=POLICY, description="Letters, digits, '.', '_' and '-'.", examples=["strict"])]


class PolicyLine(BaseModel):
    """A policy's name, and which text it has now."""

    name: str
    sha256: str
    changed_at: Time


class Policy(PolicyLine):
    """A policy with its text."""

    text: str


class PolicyText(Asked):
    """What a policy says from now on."""

    text: str = Field(max_length=512 << 10, description="TOML, as `auditor audit --policy` reads it.", examples=[""])


@router.get("", operation_id="list_policies", responses=documented())
def list_policies(request: Request, _: Reader) -> list[PolicyLine]:
    """All of them, by name."""
    with state_of(request).database.read() as connection:
        return [PolicyLine(**_line(row)) for row in policies.every(connection)]


@router.get("/{name}", operation_id="get_policy", responses=documented(404))
def get_policy(request: Request, _: Admin, name: Name) -> Policy:
    """A policy with its text."""
    try:
        with state_of(request).database.read() as connection:
            return _shown(policies.named(connection, name))
    except policies.NoPolicyError:
        raise NotFoundProblem from None


@router.put("/{name}", operation_id="put_policy", responses=documented(400, 413, 415))
def put_policy(request: Request, _: Admin, name: Name, given: PolicyText) -> Policy:
    """Keep a policy under a name, in the place of what had it; audits keep the text that they were asked for with."""
    try:
        return _shown(policies.put(state_of(request).database, name, given.text))
    except UsageError as error:
        raise InvalidProblem(body__text=str(error)) from None


@router.delete("/{name}", operation_id="delete_policy", status_code=204, responses=documented(404, 409))
def delete_policy(request: Request, _: Admin, name: Name) -> None:
    """Forget a policy that no watch uses."""
    try:
        policies.remove(state_of(request).database, name)
    except policies.NoPolicyError:
        raise NotFoundProblem from None
    except UsageError as error:
        raise ConflictProblem(str(error)) from None


def _line(row: Row[Any]) -> dict[str, Any]:
    return {"name": row.name, "sha256": row.sha256, "changed_at": moment(row.changed_at)}


def _shown(row: Row[Any]) -> Policy:
    return Policy(**_line(row), text=row.text)
