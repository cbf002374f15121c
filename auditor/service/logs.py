"""Logs on standard error, a JSON object a line: whose request, audit and attempt a line is of, and no secret.

On a terminal the same lines are laid out for a person. Records of uvicorn and DBOS go the same way.
"""

import logging
import re
import secrets
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, TextIO

import structlog

from auditor.text import shown

_HIDDEN = "***"
# Each is matched in a line as it is written, so that whatever part of a record holds a secret, it is found there.
_SECRETS = (
    (re.compile(r"(audtk_|hf_|whsec_|gh[opsur]_|github_pat_|glpat-|AKIA)[A-Za-z0-9_+/=-]{8,}"), rf"\1{_HIDDEN}"),
    (re.compile(r"(://)[^\s/@\"'\\]*@"), rf"\1{_HIDDEN}@"),
    (
        re.compile(
            r"""(?i)((?:proxy-)?authorization|x-webhook-secret|password|passwd|secret)"""
            r"""(\\?["']?\s*[:=]\s*\\?["']?)(?:(?:bearer|basic|token)\s+)?[^\s"'\\,;}]+"""
        ),
        rf"\1\2{_HIDDEN}",
    ),
    (re.compile(r"""(?i)((?:set-)?cookie)(\\?["']?\s*[:=]\s*\\?["']?)[^"'\\\n]+"""), rf"\1\2{_HIDDEN}"),
    (re.compile(r"""\?[A-Za-z0-9_.%~+-]+=[^\s"'<>\\)\]]*"""), f"?{_HIDDEN}"),
)
# What DBOS adds to each of its records.
_DROPPED = ("applicationID", "applicationVersion", "executorID", "color_message")
_NOTED = "auditor.noted"
_QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "dbos", "alembic", "httpx", "sqlalchemy")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)


def begin(level: str = "info", stream: TextIO | None = None) -> None:
    """Have every record of this process written from now on, to standard error unless `stream` is given.

    Called before DBOS starts, which makes a handler of its own where its logger has none.
    """
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(_formatter(person=target.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(max(logging.WARNING, root.level))
    jobs = logging.getLogger("dbos")
    jobs.handlers[:] = [handler]
    jobs.propagate = False
    logging.captureWarnings(True)
    threading.excepthook = _of_thread


def bound(**ids: str) -> AbstractContextManager[None]:
    """Whose all lines are that are written within: `request`, `audit`, `attempt`."""
    return structlog.contextvars.bound_contextvars(**ids)


def note(scope: Scope, **ids: str) -> None:
    """Have the line that is written of a request say more: the `token` that it showed, the `audit` that it made."""
    scope.get(_NOTED, {}).update(ids)


def redacted(text: str) -> str:
    """A text without tokens, credentials in URLs, Authorization and cookies, and query strings."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class RequestLog:
    """An ASGI layer: gives each request an id, and writes a line when it has been answered.

    Reads that were answered, which programs that wait make by the hundred, are for the level debug.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, begun, status = secrets.token_hex(8), time.perf_counter(), 500
        scope[_NOTED] = {}

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request.encode())]
            await send(message)

        with bound(request=request):
            try:
                await self._app(scope, receive, sending)
            finally:
                _tell(scope, status, time.perf_counter() - begun)


def _tell(scope: Scope, status: int, seconds: float) -> None:
    method = str(scope.get("method", ""))
    level = logging.DEBUG if status < 400 and method in ("GET", "HEAD") else logging.INFO
    if _log.isEnabledFor(level):
        told = {
            "method": method,
            "path": str(scope.get("path", ""))[:500],
            "status": status,
            "ms": round(seconds * 1000, 1),
            "client": (scope.get("client") or ("",))[0],
            **scope[_NOTED],
        }
        _log.log(level, "answered", extra=told)


def _formatter(*, person: bool) -> logging.Formatter:
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
    ]
    render: Any = structlog.processors.JSONRenderer(ensure_ascii=True)
    if person:
        render = structlog.dev.ConsoleRenderer(timestamp_key="at")

    def rendered(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
        for each in _DROPPED:
            event.pop(each, None)
        if person:  # what a checkpoint or a request brought must not act on the terminal
            event = {key: _printable(value) if isinstance(value, str) else value for key, value in event.items()}
        return redacted(str(render(logger, name, event)))

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, rendered],
    )


def _printable(text: str) -> str:
    return "\n".join(map(shown, text.split("\n")))


def _of_thread(what: threading.ExceptHookArgs) -> None:
    name = "" if what.thread is None else what.thread.name
    if what.exc_type is not SystemExit and what.exc_value is not None:
        _log.error("a thread ended by an exception", exc_info=what.exc_value, extra={"of_thread": name})
