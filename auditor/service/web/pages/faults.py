"""What went wrong, as a page for whoever looks with a browser; programs get the problem as it is."""

from typing import Any
from urllib.parse import quote

from fastapi import Request

from auditor.service.web.callers import Caller, visitor
from auditor.service.web.pages.document import page
from auditor.service.web.problems import NotFoundProblem

# What programs ask for, whatever they accept.
_PROGRAMS = ("/v1/", "/healthz", "/readyz", "/metrics", "/badge")
_WORDS = {
    400: "The request cannot be read.",
    403: "This needs a token that may do more.",
    404: "Nothing is here. It may have been removed, or the address is not complete.",
    405: "This page is not asked for that way.",
    413: "What was sent is longer than the service takes.",
    415: "What was sent is not a form.",
    422: "The address asks for something that cannot be.",
    429: "More was asked for than the service allows in a minute.",
    500: "Nothing that you did. The service's log has the rest.",
    503: "It cannot answer just now, and can again soon.",
}


def shown(content: dict[str, Any], request: Request, response: Any) -> tuple[dict[str, Any], Any]:
    """A problem as a page, with its status and its headers, where a person asked."""
    if request.url.path.startswith(_PROGRAMS) or "text/html" not in request.headers.get("accept", ""):
        return content, response
    status = response.status_code
    faults = content.get("errors") or []
    if status == 422 and all(each["field"].startswith("path.") for each in faults):
        # An address that cannot be anything's: for a person there is nothing there.
        status, content, faults = 404, {"title": NotFoundProblem.title}, []
    headers = {
        name: response.headers[name]
        for name in ("retry-after", "www-authenticate", "allow")
        if name in response.headers
    }
    if status == 401:
        return content, page(
            "login.html", caller=None, at="login", status=401, headers=headers, next=_wanted(request), fault=None,
            refused=True,
        )  # fmt: skip
    detail = content.get("detail") or ""
    # Of a service that cannot answer nothing more is asked.
    caller = _visitor(request) if status < 500 and status != 429 else None
    return content, page(
        "fault.html",
        caller=caller,
        at="" if caller is not None or status < 500 else "login",
        status=status,
        headers=headers,
        code=str(status),
        heading=content["title"],
        words=_WORDS.get(status, ""),
        detail=detail[:1].upper() + detail[1:],
        faults=faults,
        id=content.get("id"),
        again=headers.get("retry-after"),
    )


def _visitor(request: Request) -> Caller | None:
    """Who is signed in, as far as that can be told of a request that went wrong."""
    try:
        return visitor(request)
    except Exception:  # an edge: the fault is what is shown, whatever else is wrong
        return None


def _wanted(request: Request) -> str:
    """Where to go once signed in."""
    if request.method != "GET":
        return "/"
    path = quote(request.url.path, safe="/:@!$&'()*+,;=~-._%")
    return f"{path}?{request.url.query}" if request.url.query else path
