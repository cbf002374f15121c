"""What Prometheus reads: requests as they are answered; audits, attempts, workers and deliveries from the database."""

import ipaddress
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auditor.service.installation import Installation
from auditor.service.store.database import Database, now
from auditor.service.store.tables import attempts, audits, deliveries, workers
from auditor.version import __version__

CONTENT_TYPE = CONTENT_TYPE_LATEST
# So old may be what was counted: however often it is asked for, the database is asked no more often.
_KEPT_S = 10.0
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
_OF_REQUEST = ("handler", "method", "status")
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one process."""

    def __init__(self, installation: Installation) -> None:
        self._settings = installation.settings.metrics
        self._registry = CollectorRegistry(auto_describe=True)
        self._registry.register(_Counts(installation.database))
        self.requests = Counter(
            "http_requests", "Requests by template, method and status.", _OF_REQUEST, registry=self._registry
        )
        self.seconds = Histogram(
            "http_request_duration_seconds",
            "Time until an answer began, by template and method.",
            _OF_REQUEST[:2],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )

    def text(self) -> bytes:
        """The metrics as Prometheus reads them. Raises the database's errors where it is away."""
        return generate_latest(self._registry)

    @property
    def takes_tokens(self) -> bool:
        """Whether a token of scope read may read them."""
        return self._settings.tokens

    def admits(self, address: str, headers: Mapping[str, str]) -> bool:
        """Whether an address may read them; one that a proxy speaks for is not the proxy's."""
        if any(name in headers for name in _FORWARDED):
            return False
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found.version == each.version and found in each for each in self._settings.addresses)


class RequestCount:
    """An ASGI layer: counts each request by what was asked for; addresses and methods that are none are one.

    The router has said in the scope what answered. To ask it once more, as prometheus-fastapi-instrumentator does,
    takes a fifth of the time that an audit's status takes.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, took = time.perf_counter(), 500, None

        async def sending(message: Message) -> None:
            nonlocal status, took
            if message["type"] == "http.response.start":
                status, took = message["status"], time.perf_counter() - begun
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            template = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            if template != "/metrics":
                self._metrics.requests.labels(template, method, f"{status // 100}xx").inc()
                self._metrics.seconds.labels(template, method).observe(took or time.perf_counter() - begun)


class _Counts(Collector):
    """What the rows say, counted anew where the last count is old."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._kept: list[Metric] = []
        self._counted_at = -_KEPT_S

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that nothing is counted before it is asked for."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The figures."""
        with self._lock:
            if time.monotonic() - self._counted_at >= _KEPT_S:
                self._kept = list(self._count())
                self._counted_at = time.monotonic()
            yield from self._kept

    def _count(self) -> Iterator[Metric]:
        with self._database.read() as connection:

            def rows(*columns: Any) -> list[Any]:
                return list(connection.execute(select(*columns, func.count()).group_by(*columns)))

            yield _family("audits", "Audits by state and verdict.", rows(audits.c.state, audits.c.verdict))
            tries = rows(attempts.c.cause, attempts.c.ended_at.is_(None))
            by_cause = [(_outcome(cause, open_), count) for cause, open_, count in tries]
            yield _family("attempts", "Attempts by what ended them.", by_cause, ("cause",))
            yield _family("deliveries", "Notifications by state.", rows(deliveries.c.state), ("state",))
            ended = [(each or "live", count) for each, count in rows(workers.c.ended)]
            yield _family("workers", "Workers that live, were stopped, or were lost.", ended, ("state",))
            total = connection.execute(select(func.coalesce(func.sum(attempts.c.bytes_read), 0))).scalar_one()
            yield _single("read_bytes", "Tensor data that attempts have read.", float(total))
            oldest = connection.execute(
                select(func.min(audits.c.created_at)).where(audits.c.state == "queued")
            ).scalar_one()
            age = 0.0 if oldest is None else max(0, now(connection) - oldest) / 1000
            yield _single("oldest_queued_seconds", "Age of the oldest audit that is queued.", age)
        info = GaugeMetricFamily("auditor_info", "This process's version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info


def _outcome(cause: str | None, runs: bool) -> str:
    return "running" if runs else cause or "none"


def _family(
    name: str, said: str, rows: Iterable[Any], labels: tuple[str, ...] = ("state", "verdict")
) -> GaugeMetricFamily:
    """Rows of labels and a count; retention removes rows, so that these are gauges."""
    sums: dict[tuple[str, ...], int] = {}
    for *values, count in rows:
        key = tuple(str(each or "") for each in values)
        sums[key] = sums.get(key, 0) + count
    family = GaugeMetricFamily(f"auditor_{name}", said, labels=labels)
    for key, count in sorted(sums.items()):
        family.add_metric(key, count)
    return family


def _single(name: str, said: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"auditor_{name}", said, value=value)
