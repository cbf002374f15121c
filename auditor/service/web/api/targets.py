"""Targets: who is told of every final state. A target names its secret; the secret itself is in the settings."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import Row

from auditor.errors import UsageError
from auditor.service.notify.targets import KindName, Targets
from auditor.service.web.callers import Admin
from auditor.service.web.models import ID, Asked, Id, PageQuery, Plain, Time, moment, when
from auditor.service.web.paging import Pages
from auditor.service.web.problems import InvalidProblem, NotFoundProblem, documented
from auditor.service.web.state import state_of
from auditor.service.web.strict import StrictRoute

router = APIRouter(prefix="/v1/targets", tags=["notifications"], route_class=StrictRoute)


class TargetRequest(Asked):
    """A target to be told."""

    kind: KindName
    name: Plain = Field(min_length=1, max_length=100, description="What people call it.")
    options: dict[str, Any] = Field(
        max_length=20,
        description="What this kind needs; `secret` is the name of one in the settings, notify.secrets.",
        examples=[{"url": "https://ci.example/hook", "secret": "ci"}],
    )


class Target(BaseModel):
    """A target, and whether it is told."""

    id: str = Field(pattern=ID)
    kind: KindName
    name: str
    options: dict[str, Any]
    created_at: Time
    off_at: Time | None = Field(description="Since when it is told no more.")
    off_reason: str | None


class TargetPage(BaseModel):
    """Some of the targets."""

    items: list[Target]
    next: str | None


@router.get("", operation_id="list_targets", responses=documented(400))
def list_targets(request: Request, _: Admin, page: Annotated[PageQuery, Query()]) -> TargetPage:
    """Every target, the first that was added first."""
    rows, following = Pages(request, "targets").by_id(_targets(request).every, page)
    return TargetPage(items=[_target(row) for row in rows], next=following)


@router.post("", operation_id="add_target", status_code=201, responses=documented(400, 413, 415))
def add_target(request: Request, _: Admin, asked: TargetRequest) -> Target:
    """Tell a target of all that ends from now on."""
    targets = _targets(request)
    try:
        id = targets.add(asked.kind, asked.name, asked.options)  # noqa: A001  # what it is everywhere
    except UsageError as error:
        raise InvalidProblem(body=str(error)) from None
    return _one(targets, id)


@router.get("/{target}", operation_id="get_target", responses=documented(404))
def get_target(request: Request, _: Admin, target: Id) -> Target:
    """A target as it is now."""
    return _one(_targets(request), target)


@router.post("/{target}/off", operation_id="switch_target_off", responses=documented(404))
def switch_target_off(request: Request, caller: Admin, target: Id) -> Target:
    """Tell a target no more, until it is on again."""
    targets = _targets(request)
    if not targets.off(target, f"switched off by the token {caller.name}"):
        raise NotFoundProblem
    return _one(targets, target)


@router.post("/{target}/on", operation_id="switch_target_on", responses=documented(404))
def switch_target_on(request: Request, _: Admin, target: Id) -> Target:
    """Tell a target again, of all that ends from now on."""
    targets = _targets(request)
    if not targets.on(target):
        raise NotFoundProblem
    return _one(targets, target)


@router.delete("/{target}", operation_id="remove_target", status_code=204, responses=documented(404))
def remove_target(request: Request, _: Admin, target: Id) -> None:
    """Forget a target with its deliveries."""
    if not _targets(request).remove(target):
        raise NotFoundProblem


def _targets(request: Request) -> Targets:
    installation = state_of(request).installation
    return Targets(installation.database, installation.settings)


def _one(targets: Targets, id: str) -> Target:  # noqa: A002  # what it is everywhere
    row = targets.one(id)
    if row is None:
        raise NotFoundProblem
    return _target(row)


def _target(row: Row[Any]) -> Target:
    return Target(
        id=row.id,
        kind=row.kind,
        name=row.name,
        options=json.loads(row.options),
        created_at=moment(row.created_at),
        off_at=when(row.off_at),
        off_reason=row.off_reason,
    )
