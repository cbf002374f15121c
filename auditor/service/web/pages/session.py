"""Signing in with a token, and out."""

from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditor.service.web.callers import refuse_other_sites, sign_in, sign_out, visitor
from auditor.service.web.pages.document import page
from auditor.service.web.pages.form import Form

router = APIRouter(include_in_schema=False)


@router.get("/login")
def ask(request: Request) -> HTMLResponse:
    """The form that takes a token, and leads back to the page of ours that led here."""
    place = local(request.headers.get("referer", "").removeprefix(str(request.base_url).rstrip("/")))
    if place == "/login":
        place = "/"
    return page("login.html", caller=visitor(request), at="login", next=place, fault=None, refused=False)


@router.post("/login")
def enter(request: Request, form: Form) -> Response:
    """Begin a session, and go where the person wanted to."""
    refuse_other_sites(request)
    place = local(form.get("next", "/"))
    if sign_in(request, form.get("token", "").strip()):
        return RedirectResponse(place, 303)
    fault = "unknown, expired or revoked: give the whole token, which begins with audtk_"
    return page("login.html", caller=None, at="login", status=401, next=place, fault=fault, refused=False)


@router.post("/logout")
def leave(request: Request) -> Response:
    """End the session."""
    refuse_other_sites(request)
    sign_out(request)
    return RedirectResponse("/", 303)


def local(place: str) -> str:
    """A place of this service, as its path and query; the dashboard for anything else."""
    try:
        parts = urlsplit(place)
    except ValueError:
        return "/"
    plain = place.isascii() and place.isprintable() and "\\" not in place and " " not in place and len(place) < 2000
    ours = not parts.scheme and not parts.netloc and place.startswith("/") and not place.startswith("//")
    return place if plain and ours else "/"
