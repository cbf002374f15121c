"""A database that is away, or full: 503 with Retry-After, what can be answered is, and nothing is accepted by half."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor.service import migrate
from auditor.service.installation import open_installation
from auditor.service.settings import Settings
from auditor.service.web.app import create_app
from tests.servers.postgres import Postgres
from tests.service.web.conftest import Service


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A PostgreSQL that the test may stop."""
    try:
        own = Postgres()
    except LookupError as lack:
        pytest.skip(str(lack))
    yield own
    own.close()


@pytest.fixture
def away(server: Postgres, tmp_path: Path) -> Iterator[Service]:
    """A service on that database, which anybody may read."""
    settings = Settings(
        data=tmp_path / "data",
        database=server.database(),
        sources={"roots": [tmp_path]},
        web={"public_read": True},
    )
    installation = open_installation(settings)
    migrate.apply(installation.database)
    stopped = threading.Event()
    served = Service(create_app(installation, stopped=stopped), installation, stopped)
    running = served.start()
    yield served
    served.close(running)
    installation.close()


def test_while_the_database_is_away_it_is_said_and_nothing_is_lost(
    away: Service, server: Postgres, tmp_path: Path
) -> None:
    client, nobody = away.client("submit"), away.client()
    audit = client.post("/v1/audits", json={"source": str(tmp_path / "a")}).json()["id"]
    server.stop()
    body = {"source": str(tmp_path / "b")}
    for answer in (client.get(f"/v1/audits/{audit}"), client.post("/v1/audits", json=body), client.get("/v1/audits")):
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) > 0
        assert "127.0.0.1" not in answer.text
    assert nobody.get("/healthz").status_code == 200
    assert nobody.get("/readyz").json()["database"] == "away"
    assert nobody.get("/v1/rules").status_code == 200
    server.start()
    until = time.monotonic() + 20
    while client.get(f"/v1/audits/{audit}").status_code == 503 and time.monotonic() < until:
        time.sleep(0.1)
    assert client.get(f"/v1/audits/{audit}").json()["state"] == "queued"
    assert [each["source"] for each in client.get("/v1/audits").json()["items"]] == [str(tmp_path / "a")]
    assert client.post("/v1/audits", json=body).status_code == 202


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_full_disk_refuses_what_cannot_be_kept_and_shows_what_is(service: Service, tmp_path: Path) -> None:
    client = service.client("submit")
    audit = client.post("/v1/audits", json={"source": str(tmp_path / "a")}).json()["id"]
    with service.installation.database.engine.connect() as connection:  # the one that writes; it stays as it is set
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    statuses = {
        client.post("/v1/audits", json={"source": f"{tmp_path}/{'b' * 1000}{n}"}).status_code for n in range(60)
    }
    assert statuses <= {202, 503}
    assert 503 in statuses
    assert client.get(f"/v1/audits/{audit}").status_code == 200
    with service.installation.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert client.post("/v1/audits", json={"source": str(tmp_path / "c")}).status_code == 202
