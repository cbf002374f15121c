"""The report of an audit in every format that the command has, and the difference between two."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from auditor.service.web import rendering
from auditor.service.web.callers import Reader
from auditor.service.web.models import ID, Id
from auditor.service.web.problems import documented
from auditor.service.web.rendering import KINDS, Kind
from auditor.service.web.state import state_of
from auditor.version import __version__

router = APIRouter(tags=["reports"])

# A page of a report runs its own scripts as nobody: it cannot ask us anything as the one who reads it.
_PAGE = {
    "Content-Security-Policy": "sandbox allow-scripts allow-downloads allow-popups; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    # A page in a sandbox has no opener to be kept from, and browsers refuse the two together.
    "Cross-Origin-Opener-Policy": "unsafe-none",
}
# Kept, and asked about each time: who may see it is judged again.
_KEPT = "private, no-cache"
Known = Annotated[str | None, Header(alias="If-None-Match", max_length=1000, description="ETags that are there.")]
Table = Literal["inventory", "tallies", "findings"]
_NOT_MODIFIED: dict[int | str, dict[str, object]] = {304: {"description": "It has an ETag that was given."}}


def _answered(kind: Kind, what: str) -> dict[int | str, dict[str, object]]:
    schema = {"type": "object" if kind.media_type.endswith("json") else "string"}
    if kind.media_type == "application/zip":
        schema["format"] = "binary"
    headers = {"ETag": {"description": "Of this report in this format.", "schema": {"type": "string"}}}
    content = {kind.media_type.partition(";")[0]: {"schema": schema}}
    return {200: {"description": what, "content": content, "headers": headers}, **_NOT_MODIFIED}


def _serve(name: str, kind: Kind) -> Callable[..., Awaitable[Response]]:
    async def serve(request: Request, _: Reader, audit: Id, known: Known = None) -> Response:
        return await answer(request, audit, known, name, kind)

    return serve


for _name, _kind in KINDS.items():
    router.add_api_route(
        "/v1/audits/{audit}/report" + ("" if _name == "json" else f".{_kind.suffix}"),
        _serve(_name, _kind),
        operation_id=f"get_report_{_name}",
        summary=f"The report as {_name}",
        response_class=Response,
        responses={**_answered(_kind, f"The report as {_name}."), **documented(404, 409)},
    )


@router.get(
    "/v1/audits/{audit}/report/{table}.csv",
    operation_id="get_report_table",
    response_class=Response,
    responses={**_answered(Kind("csv", "text/csv"), "The table."), **documented(404, 409)},
)
async def get_report_table(request: Request, _: Reader, audit: Id, table: Table, known: Known = None) -> Response:
    """One table of the report, for spreadsheets and notebooks."""
    kind = Kind(f"{table}.csv", "text/csv; charset=utf-8")
    return await answer(
        request, audit, known, f"csv-{table}", kind, lambda data, _: rendering.tables(data)[f"{table}.csv"]
    )


@router.get(
    "/v1/diff",
    operation_id="get_diff",
    response_class=Response,
    responses={
        200: {"description": "The difference.", "content": {"application/json": {"schema": {"type": "object"}}}},
        **documented(404, 409),
    },
)
async def get_diff(
    request: Request, _: Reader, old: Annotated[str, Query(pattern=ID)], new: Annotated[str, Query(pattern=ID)]
) -> Response:
    """What changed between the reports of two audits: tensors, figures and findings."""
    return await answer_difference(request, old, new, "json")


@router.get(
    "/v1/diff.html",
    operation_id="get_diff_html",
    response_class=Response,
    responses={
        200: {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}},
        **documented(404, 409),
    },
)
async def get_diff_html(
    request: Request, _: Reader, old: Annotated[str, Query(pattern=ID)], new: Annotated[str, Query(pattern=ID)]
) -> Response:
    """The same as one HTML page."""
    return await answer_difference(request, old, new, "html")


async def answer(
    request: Request,
    audit: str,
    known: str | None,
    name: str,
    kind: Kind,
    make: Callable[[bytes, str], bytes] = rendering.rendered,
) -> Response:
    """The report of an audit in a format, made once for all who ask for it while it is kept."""
    state = state_of(request)
    row = await run_in_threadpool(rendering.reported, state, audit)
    etag = f'"{row.report}"' if name == "json" else f'"{row.report}-{name}-{__version__}"'
    headers = {"ETag": etag, "Cache-Control": _KEPT, "Vary": "Authorization, Cookie"}
    if known is not None and _is_known(known, etag):
        return Response(status_code=304, headers=headers)

    def made() -> bytes:
        return make(rendering.stored(state.installation.reports, row.report), name)

    def taken() -> bytes:
        return made() if name == "json" else state.rendered.take((row.report, name), made)

    data = await to_thread.run_sync(taken, limiter=state.renders)
    where = "inline" if kind.inline else "attachment"
    headers["Content-Disposition"] = f'{where}; filename="{rendering.file_name(row, kind.suffix)}"'
    if kind is KINDS["html"]:
        headers.update(_PAGE)
    return Response(data, media_type=kind.media_type, headers=headers)


async def answer_difference(request: Request, old: str, new: str, name: str, *, above: str | None = None) -> Response:
    """What changed between the reports of two audits, likewise; `above` is where a page leads back to."""
    state = state_of(request)
    one, other = [(await run_in_threadpool(rendering.reported, state, each)).report for each in (old, new)]

    def taken() -> bytes:
        reports = state.installation.reports
        return state.rendered.take(
            (one, other, name, above), lambda: rendering.difference(reports, one, other, name, above=above)
        )

    data = await to_thread.run_sync(taken, limiter=state.renders)
    return Response(data, media_type=KINDS[name].media_type, headers=_PAGE if name == "html" else {})


def _is_known(given: str, etag: str) -> bool:
    return given.strip() == "*" or etag in (each.strip().removeprefix("W/") for each in given.split(","))
