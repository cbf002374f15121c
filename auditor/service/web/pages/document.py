"""A page as it is answered: template, style, script, and a policy that allows these alone, by their hashes."""

from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader
from starlette.responses import HTMLResponse

from auditor.service.web.callers import Caller
from auditor.service.web.headers import content_policy
from auditor_reports.document import block, environment_of

_STYLES = ("site.css", "service.css")  # the look of a published site, and what a service has beside that
_LIVE = "live.js"


def page(
    template: str,
    *,
    caller: Caller | None,
    at: str = "",
    status: int = 200,
    live: bool = False,
    headers: dict[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """A template of the service as an answer to somebody, or to nobody known. `at` is the section it belongs to.

    `live` pages have the script that listens to an audit, and may open its stream.
    """
    environment, style = _environment(), _style()
    script = block(environment, _LIVE) if live else ""
    text = environment.get_template(template).render(
        style=style, script=script, caller=caller, at=at, signed_in=caller is not None and bool(caller.id), **values
    )
    policy = content_policy(styles=(style,), scripts=(script,) if live else (), images=True, connects=live)
    return HTMLResponse(text, status, {**(headers or {}), "Content-Security-Policy": policy})


def text_of(template: str, **values: Any) -> str:
    """A template of the service that is no page."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    """The pages' own templates, and the pieces of a published site."""
    return environment_of(ChoiceLoader([PackageLoader("auditor.service.web"), PackageLoader("auditor_reports")]))


@cache
def _style() -> Any:
    environment = _environment()
    first, second = (block(environment, each) for each in _STYLES)
    return first + second
