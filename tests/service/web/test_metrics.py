"""Metrics say what the rows say, to those whom the settings name, and are read by Prometheus's own parser."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert, update

from auditor.service.audits.life import Result
from auditor.service.audits.order import Order
from auditor.service.operate.metrics import Metrics
from auditor.service.settings.tables import Metrics as Access
from auditor.service.store.database import now
from auditor.service.store.tables import audits, workers


def read(text: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    families = text_string_to_metric_families(text)
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def with_access(service, **access: object) -> None:
    settings = service.installation.settings.model_copy(update={"metrics": Access(**access)})
    object.__setattr__(service.installation, "settings", settings)
    service.app.state.metrics = Metrics(service.installation)


def test_metrics_are_what_the_database_says(service) -> None:
    installation = service.installation
    ended = [installation.audits.submit(Order(source="hf://org/model", seed=seed)).audit for seed in range(3)]
    for audit, verdict in zip(ended, ("passed", "failed", None), strict=True):
        installation.audits.begin(audit, 1, "w")
        result = Result(report="a" * 64, verdict=verdict, bytes_read=1000, tool="1")
        installation.audits.conclude(audit, 1, "w", result if verdict else Result(causes=("not_found",)))
    waits = installation.audits.submit(Order(source="hf://org/model")).audit
    with installation.database.write() as connection:
        at = now(connection)
        connection.execute(update(audits).where(audits.c.id == waits).values(created_at=at - 60_000))
        row = {"host": "h", "pid": 1, "tool": "1", "counter": 0, "started_at": 0, "seen_at": 0}
        for worker, how in (("a", None), ("b", "lost"), ("c", "lost")):
            connection.execute(insert(workers).values(id=worker, **row, ended=how, ended_at=how and at))
    found = read(service.client().get("/metrics").text)
    assert found[("auditor_audits", "finished", "passed")] == 1
    assert found[("auditor_audits", "finished", "failed")] == 1
    assert found[("auditor_audits", "failed", "")] == 1
    assert found[("auditor_audits", "queued", "")] == 1
    assert found[("auditor_attempts", "none")] == 2
    assert found[("auditor_attempts", "not_found")] == 1
    assert found[("auditor_workers", "live")] == 1
    assert found[("auditor_workers", "lost")] == 2
    assert found[("auditor_read_bytes",)] == 2000
    assert 60 <= found[("auditor_oldest_queued_seconds",)] < 120


def test_requests_are_counted_by_what_was_asked_for_and_not_by_what_somebody_wrote(service) -> None:
    client = service.client("read")
    for path in ("/v1/audits", "/v1/audits/none", "/v1/audits/other", "/no/such/path", "/wp-login.php"):
        client.get(path)
    found = read(client.get("/metrics").text)
    counted = {key[1:]: value for key, value in found.items() if key[0] == "http_requests_total"}
    assert counted[("/v1/audits", "GET", "2xx")] == 1
    assert sum(value for key, value in counted.items() if key[0].startswith("/v1/audits/{")) == 2
    assert not any("wp-login" in str(key) or "other" in str(key) for key in counted)


def test_counts_are_kept_for_a_while(service) -> None:
    client = service.client()
    before = read(client.get("/metrics").text)
    service.installation.audits.submit(Order(source="hf://org/model"))
    after = read(client.get("/metrics").text)
    assert ("auditor_audits", "queued", "") not in before
    assert ("auditor_audits", "queued", "") not in after


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_whom_a_proxy_speaks_for_is_not_on_this_machine(service, header: str) -> None:
    assert service.client().get("/metrics").status_code == 200
    assert service.client(**{header: "127.0.0.1"}).get("/metrics").status_code == 403


def test_no_address_and_no_token_may_unless_the_settings_say_so(service) -> None:
    with_access(service, addresses=())
    assert service.client().get("/metrics").status_code == 403
    assert service.client("admin").get("/metrics").status_code == 403


def test_token_may_where_the_settings_say_so(service) -> None:
    with_access(service, addresses=(), tokens=True)
    assert service.client("read").get("/metrics").status_code == 200
    assert service.client().get("/metrics").status_code == 401
    assert service.client(Authorization="Bearer audtk_none").get("/metrics").status_code == 401


@pytest.mark.parametrize(
    ("address", "may"), [("10.1.2.3", True), ("10.2.2.3", False), ("fd00::1", True), ("::1", False), ("", False)]
)
def test_named_networks_may(installation, address: str, may: bool) -> None:
    settings = installation.settings.model_copy(update={"metrics": Access(addresses=["10.1.0.0/16", "fd00::/8"])})
    object.__setattr__(installation, "settings", settings)
    assert Metrics(installation).admits(address, {}) is may
