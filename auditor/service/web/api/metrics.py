"""Metrics for Prometheus, for those whom the settings let read them."""

from fastapi import APIRouter, Request, Response

from auditor.service.operate.metrics import CONTENT_TYPE, Metrics
from auditor.service.web.callers import visitor
from auditor.service.web.problems import ForbiddenProblem, UnauthorizedProblem

router = APIRouter(tags=["health"])


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """Tell requests and audits in Prometheus's text form."""
    found: Metrics = request.app.state.metrics
    if not found.admits(request.client.host if request.client else "", request.headers):
        _admit(request, found)
    return Response(found.text(), media_type=CONTENT_TYPE)


def _admit(request: Request, found: Metrics) -> None:
    """Raise a problem unless a good token is shown and tokens may."""
    if not found.takes_tokens:
        raise ForbiddenProblem("metrics are for the addresses that the settings name")
    caller = visitor(request)
    if caller is None:
        raise UnauthorizedProblem
    if not caller.may("read"):
        raise ForbiddenProblem("it needs the scope read")
