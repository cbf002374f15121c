"""What tests of notifications share: an installation that announces, secrets, and audits that end."""

import base64
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Row, select

from auditor.service.audits.life import Result
from auditor.service.audits.order import Order
from auditor.service.installation import Installation, open_installation
from auditor.service.notify.deliveries import Deliveries, announcing
from auditor.service.notify.targets import Targets
from auditor.service.settings import Settings
from auditor.service.settings.tables import Notify
from auditor.service.store.tables import deliveries as table

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
OTHER = "whsec_" + base64.b64encode(b"fedcba9876543210fedcba98").decode()
COMMIT = "0123456789abcdef0123456789abcdef01234567"

End = Callable[..., str]
Told = Callable[[], list[Row[Any]]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The same, with loopback allowed and secrets."""
    notify = Notify(
        hosts=("127.0.0.1", "localhost"),
        private=True,
        secrets={"signing": SECRET, "both": f"{OTHER} {SECRET}", "token": "secret-token", "broken": "whsec_ü"},
    )
    return settings.model_copy(update={"notify": notify, "public_url": "https://audits.example/"})


@pytest.fixture
def installation(settings: Settings) -> Iterator[Installation]:
    """An installation that announces; no worker runs."""
    opened = open_installation(settings, announce=announcing)
    yield opened
    opened.close()


@pytest.fixture
def targets(installation: Installation) -> Targets:
    return Targets(installation.database, installation.settings)


@pytest.fixture
def stopped() -> threading.Event:
    return threading.Event()


@pytest.fixture
def deliveries(installation: Installation, stopped: threading.Event) -> Deliveries:
    return Deliveries(installation, stopped)


@pytest.fixture
def end(installation: Installation) -> End:
    """Has an audit end; its id."""

    def run(
        verdict: str | None = "passed", *, reason: str | None = None, also: tuple[str, ...] = (), **asked: Any
    ) -> str:
        order = Order(**{"source": "hf://org/model", **asked})
        audit = installation.audits.submit(order).audit
        for origin in also:
            again = Order(**{"source": "hf://org/model", **asked, "origin": origin})
            assert installation.audits.submit(again).audit == audit
        if verdict == "cancelled":
            installation.audits.cancel(audit)
            return audit
        installation.audits.begin(audit, 1, "worker")
        result = Result(causes=("not_found",), reason=reason)
        if verdict is not None:
            result = Result(report="a" * 64, verdict=verdict, errors=2, warnings=1, resolved=COMMIT, tool="1.2.3")
        installation.audits.conclude(audit, 1, "worker", result)
        return audit

    return run


@pytest.fixture
def told(installation: Installation) -> Told:
    """The deliveries as they are."""

    def rows() -> list[Row[Any]]:
        with installation.database.read() as connection:
            return list(connection.execute(select(table).order_by(table.c.id)))

    return rows


@pytest.fixture
def deliver(deliveries: Deliveries, told: Told) -> Callable[[], Row[Any]]:
    """Makes the one delivery's present job, as a worker does; the row after it."""

    def run() -> Row[Any]:
        (row,) = told()
        came = deliveries.send(row.id, row.attempt)
        assert came is not None
        deliveries.settle(row.id, row.attempt, came)
        return told()[0]

    return run
