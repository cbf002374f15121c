"""Requests under a name that is none of this service's are answered with a problem, before anything looks at them."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from auditor.service.web.problems import BadRequestProblem


class KnownHosts:
    """Passes on requests by one of these names, or below `*.name`. Starlette's own refuses in plain text."""

    def __init__(self, app: ASGIApp, *, names: Iterable[str]) -> None:
        self._app = app
        every = [each.lower() for each in names]
        self._names = frozenset(every)
        self._endings = tuple(each[1:] for each in every if each.startswith("*"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] != "http" or self._known(Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, send)
            return
        problem = BadRequestProblem("Host: names none of this service's hosts")
        answer = JSONResponse(problem.marshal(), problem.status, media_type="application/problem+json")
        await answer(scope, receive, send)

    def _known(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
        except ValueError:  # half an IPv6 address
            return False
        if parts.netloc != host or parts.username is not None:
            return False
        name = parts.hostname or ""
        return name in self._names or name.endswith(self._endings)
