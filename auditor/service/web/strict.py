"""Bodies of requests: of bounded length, and for the API JSON that every reader reads alike, and nothing else."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class StrictRequest(Request):
    """A request whose body is JSON: no key twice, no number that JSON lacks, nested no deeper than Python reads."""

    async def json(self) -> Any:
        """The document. Raises JSONDecodeError."""
        body = await self.body()
        try:
            return json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_refuse_constant)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError):  # no UTF-8, a number of thousands of digits, thousands of brackets
            raise json.JSONDecodeError("not JSON", "", 0) from None


class StrictRoute(APIRoute):
    """A route that reads StrictRequests, and refuses bodies that are said to be something else than JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with a request of our kind."""
        handler = super().get_route_handler()
        takes_body = self.body_field is not None

        async def strict(request: Request) -> Response:
            if takes_body and not _says_json(request):
                raise HTTPException(415)
            return await handler(StrictRequest(request.scope, request.receive))

        return strict


class BodyLimit:
    """Ends the reading of a body that is longer than so many bytes, announced or not, with a 413.

    Starlette's own limit answers in plain text, whatever the application would have answered.
    """

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        length = int(announced) if announced.isdecimal() and len(announced) < 16 else self._most + 1
        read = 0

        async def bounded() -> Message:
            nonlocal read
            if length > self._most:
                raise HTTPException(413)
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise HTTPException(413)
            return message

        await self._app(scope, bounded, send)


def _says_json(request: Request) -> bool:
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    return kind.strip().lower() == "application/json" and charset in ("", "utf-8")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise json.JSONDecodeError("a key twice", "", 0)
    return found


def _refuse_constant(_: str) -> None:
    raise json.JSONDecodeError("a number that JSON does not have", "", 0)
