"""The form that starts an audit."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditor.errors import UsageError
from auditor.families import family_names
from auditor.service.access.sources import judge
from auditor.service.settings.tables import Sources
from auditor.service.store.tables import policies
from auditor.service.web.api.audits import page_of, submit_audit
from auditor.service.web.callers import Caller, Submitter
from auditor.service.web.models import AuditRequest, Plain
from auditor.service.web.pages.document import page
from auditor.service.web.pages.form import Form
from auditor.service.web.pages.views import DEPTHS
from auditor.service.web.problems import InvalidProblem
from auditor.service.web.state import state_of

router = APIRouter(include_in_schema=False)
_TEXTS = ("source", "revision", "depth", "family", "policy", "baseline")
_NUMBERS = ("seed", "priority")
_GIVEN = {"depth": "headers", "priority": "5"}
_HUB = frozenset(Sources().hosts)
Source = Annotated[Plain, Query(max_length=2000)]


@router.get("/audits/new")
def ask(request: Request, caller: Submitter, source: Source = "") -> HTMLResponse:
    """The form, with a source where a link names one."""
    return _form(request, caller, {**_GIVEN, "source": source}, {}, 200)


@router.post("/audits/new")
async def start(request: Request, caller: Submitter, form: Form) -> Response:
    """Start an audit and go to it, or show the form again with what is wrong beside each field."""
    try:
        asked = AuditRequest.model_validate(_request(form))
        answer = await submit_audit(request, caller, asked)
    except ValidationError as error:
        faults = {str(each["loc"][0]): _said(each["msg"]) for each in error.errors(include_url=False)}
        faults |= _source_faults(request, form, faults)
    except InvalidProblem as error:
        faults = {each["field"].removeprefix("body."): each["message"] for each in error.extras["errors"]}
    else:
        return RedirectResponse(page_of(answer), 303)
    return await run_in_threadpool(_form, request, caller, form, faults, 422)


def _request(form: dict[str, str]) -> dict[str, Any]:
    """The fields as the API has them: what is left empty is not given, a number is one if it looks like one."""
    given: dict[str, Any] = {name: text for name in _TEXTS if (text := form.get(name, "").strip())}
    for name in _NUMBERS:
        if text := form.get(name, "").strip():
            given[name] = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text
    given["force"] = form.get("force") == "yes"
    return given


def _source_faults(request: Request, form: dict[str, str], faults: dict[str, str]) -> dict[str, str]:
    """What is wrong with the source, so that it is said together with what is wrong with other fields."""
    if faults.keys() & {"source", "revision"}:
        return {}
    allowed = state_of(request).installation.settings.sources
    try:
        judge(form["source"].strip(), form.get("revision", "").strip() or None, allowed)
    except UsageError as error:
        return {"source": str(error)}
    return {}


def _form(request: Request, caller: Caller, given: dict[str, str], faults: dict[str, str], status: int) -> HTMLResponse:
    state = state_of(request)
    allowed = state.installation.settings.sources
    with state.database.read() as connection:
        names = list(connection.execute(select(policies.c.name).order_by(policies.c.name)).scalars())
    fields = (*_TEXTS, *_NUMBERS, "force")
    return page(
        "start.html",
        caller=caller,
        at="new",
        status=status,
        given={name: given.get(name, "") for name in fields},
        faults={name: faults.get(name) for name in fields},
        count=len(faults),
        depths=list(DEPTHS.items()),
        policies=names,
        families=family_names(),
        # What would be refused is better known before.
        allowed=[
            *(f"hf://{each}/…" for each in allowed.organisations or ("organisation",)),
            *(f"https://{each}/…" for each in allowed.hosts if each not in _HUB),
            *(f"{each}/…" for each in allowed.buckets),
            *(f"{each}/…" for each in map(str, allowed.roots)),
        ][:12],
    )


def _said(message: str) -> str:
    """A validator's words without its prefix."""
    return message.removeprefix("Value error, ").lower()
