"""A checkpoint's latest report by a lasting address, and its verdict as a picture for other sites."""

import hashlib
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request
from sqlalchemy import Row
from starlette.responses import RedirectResponse, Response

from auditor.service.audits import lookup
from auditor.service.web.callers import Reader
from auditor.service.web.models import ID, Id, Plain
from auditor.service.web.pages import views
from auditor.service.web.pages.document import text_of
from auditor.service.web.problems import InvalidProblem, NotFoundProblem
from auditor.service.web.state import State, state_of

router = APIRouter(include_in_schema=False)
_PICTURE = "image/svg+xml"
_KEPT_S = 60
# Widths of DejaVu Sans and Verdana at 11 pixels, rounded up; the picture tells the reader's browser to keep to them.
_CHARACTER, _MARGIN = 6.8, 12
_COLOURS = {"passed": "#1e6b3a", "failed": "#a8201a", "incomplete": "#6a3d86", "waiting": "#565b62"}

Source = Annotated[Plain | None, Query(max_length=2000)]
Which = Annotated[str | None, Query(pattern=ID)]


@router.get("/icon.svg")
def icon() -> Response:
    """What browsers show beside the title."""
    return Response(text_of("icon.svg"), media_type=_PICTURE, headers={"Cache-Control": "public, max-age=86400"})


@router.get("/report")
def latest_of(request: Request, _: Reader, source: Source = None) -> RedirectResponse:
    """The latest report of a source."""
    return _latest(_found(state_of(request), source, None))


@router.get("/checkpoints/{checkpoint}/report")
def latest(request: Request, _: Reader, checkpoint: Id) -> RedirectResponse:
    """The latest report of a checkpoint."""
    return _latest(_found(state_of(request), None, checkpoint))


@router.get("/badge")
def badge(
    request: Request,
    _: Reader,
    source: Source = None,
    checkpoint: Which = None,
    known: Annotated[str | None, Header(alias="If-None-Match", max_length=1000)] = None,
) -> Response:
    """The latest verdict of a source, or of a checkpoint by its id, as a picture; grey where there is none."""
    state = state_of(request)
    if (source is None) == (checkpoint is None):
        raise InvalidProblem(query__source="needs a source or a checkpoint, and one alone")
    return _picture(state, _found(state, source, checkpoint), known)


@router.get("/checkpoints/{checkpoint}/badge.svg")
def badge_of(
    request: Request,
    _: Reader,
    checkpoint: Id,
    known: Annotated[str | None, Header(alias="If-None-Match", max_length=1000)] = None,
) -> Response:
    """The same, by a checkpoint's address."""
    state = state_of(request)
    return _picture(state, _found(state, None, checkpoint), known)


def _found(state: State, source: str | None, checkpoint: str | None) -> Row | None:  # type: ignore[type-arg]  # of columns
    with state.database.read() as connection:
        if checkpoint is not None:
            return lookup.checkpoint(connection, checkpoint)
        return None if source is None else lookup.checkpoint_of(connection, source)


def _latest(row: Row | None) -> RedirectResponse:  # type: ignore[type-arg]  # likewise
    if row is None or row.latest_audit is None:
        raise NotFoundProblem("there is no report of it yet")
    return RedirectResponse(f"/audits/{quote(row.latest_audit)}/report", 302)


def _picture(state: State, row: Row | None, known: str | None) -> Response:  # type: ignore[type-arg]  # likewise
    standing = views.verdict(None if row is None else row.verdict)
    kind = standing.verdict
    word = f"{standing.mark} {standing.word.lower()}, {row.depth}" if row is not None and row.verdict else "no report"
    label = "checkpoint"
    left, right = (round(len(each) * _CHARACTER) + _MARGIN for each in (label, word))
    picture = text_of(
        "badge.svg",
        label=label,
        word=word,
        title=label if row is None else row.source,
        left=left,
        right=right,
        colour=_COLOURS[kind],
    )
    etag = f'"{hashlib.sha256(picture.encode()).hexdigest()[:32]}"'
    public = state.installation.settings.web.public_read
    headers = {
        "Cache-Control": f"{'public' if public else 'private'}, max-age={_KEPT_S}",
        "ETag": etag,
        "Vary": "Authorization, Cookie",
        # It is there to be shown by other sites.
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    if known is not None and etag in [each.strip().removeprefix("W/") for each in known.split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(picture, media_type=_PICTURE, headers=headers)
