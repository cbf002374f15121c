"""The application: routers, and what stands before them. Workers are none of its business."""

import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.middleware.sessions import SessionMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from auditor.service.access.keys import SESSIONS, key
from auditor.service.installation import Installation
from auditor.service.logs import RequestLog
from auditor.service.operate.metrics import Metrics, RequestCount
from auditor.service.settings import Settings
from auditor.service.web import problems
from auditor.service.web.api import (
    audits,
    checkpoints,
    deliveries,
    events,
    health,
    hooks,
    metrics,
    policies,
    reports,
    rules,
    targets,
    tokens,
    watches,
)
from auditor.service.web.callers import cookie_name, is_tls
from auditor.service.web.headers import SecurityHeaders
from auditor.service.web.hosts import KnownHosts
from auditor.service.web.openapi import describe
from auditor.service.web.pages import faults
from auditor.service.web.pages.router import router as pages
from auditor.service.web.state import state_for
from auditor.service.web.strict import BodyLimit
from auditor.version import __version__

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ROUTERS = (
    audits.router,
    events.router,
    reports.router,
    checkpoints.router,
    rules.router,
    policies.router,
    tokens.router,
    watches.router,
    targets.router,
    deliveries.router,
    hooks.router,
    health.router,
    metrics.router,
    pages,
)


def create_app(installation: Installation, *, stopped: threading.Event) -> FastAPI:
    """The application over an installation whose schema is there. `stopped` ends its streams."""
    settings = installation.settings
    app = FastAPI(
        title="auditor",
        version=__version__,
        description="Audits of checkpoints, on request and on every upload.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.auditor = state_for(installation, stopped)
    app.state.metrics = Metrics(installation)
    problems.install(app, faults.shown)
    # The last one added is the first that a request meets.
    app.add_middleware(BodyLimit, most=settings.web.body)
    app.add_middleware(
        SessionMiddleware,
        secret_key=key(installation.database, SESSIONS).hex(),
        session_cookie=cookie_name(settings),
        max_age=settings.web.session_hours * 3600,
        same_site="lax",
        https_only=is_tls(settings),
    )
    app.add_middleware(KnownHosts, names=list(_hosts(settings)))
    app.add_middleware(SecurityHeaders, tls=is_tls(settings))
    app.add_middleware(RequestCount, metrics=app.state.metrics)
    app.add_middleware(RequestLog)
    if settings.web.proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.web.proxies))
    for router in _ROUTERS:
        app.include_router(router)
    describe(app)
    return app


def _hosts(settings: Settings) -> Iterator[str]:
    """The names that requests may use for this service."""
    yield from _LOOPBACK
    yield from map(str.lower, settings.web.trusted_hosts)
    yield settings.host
    if host := urlsplit(settings.public_url or "").hostname:
        yield host
