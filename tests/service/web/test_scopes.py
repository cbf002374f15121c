"""Every address with the scope that it needs, as one list: one that is added has to be added here too."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.service.web.conftest import Service

# Whoever asks; hooks have secrets of their own, and metrics addresses.
ANYBODY = """
GET /healthz
GET /readyz
GET /metrics
GET /v1/openapi.json
GET /icon.svg
GET /login
POST /login
POST /logout
POST /v1/hooks/hub
POST /v1/hooks/generic
POST /v1/hooks/github
"""
READ = """
GET /v1/audits
GET /v1/audits/{audit}
GET /v1/audits/{audit}/attempts
GET /v1/audits/{audit}/attempts/{n}/log
GET /v1/audits/{audit}/events
GET /v1/audits/{audit}/report
GET /v1/audits/{audit}/report.html
GET /v1/audits/{audit}/report.sarif
GET /v1/audits/{audit}/report.junit.xml
GET /v1/audits/{audit}/report.md
GET /v1/audits/{audit}/report.csv.zip
GET /v1/audits/{audit}/report/{table}.csv
GET /v1/diff
GET /v1/diff.html
GET /v1/checkpoints
GET /v1/checkpoints/{checkpoint}
GET /v1/checkpoints/{checkpoint}/audits
GET /v1/rules
GET /v1/rules/{rule}
GET /v1/policies
GET /v1/watches
GET /v1/watches/{watch}
GET /
GET /audits
GET /audits/{audit}
GET /audits/{audit}/attempts/{n}
GET /audits/{audit}/report
GET /checkpoints/{checkpoint}
GET /checkpoints/{checkpoint}/report
GET /checkpoints/{checkpoint}/badge.svg
GET /badge
GET /compare
GET /queue
GET /report
GET /rules
GET /rules/{name}
"""
SUBMIT = """
POST /v1/audits
POST /v1/audits/{audit}/cancel
POST /v1/audits/{audit}/rerun
PUT /v1/audits/{audit}/pin
DELETE /v1/audits/{audit}/pin
GET /audits/new
POST /audits/new
POST /audits/{audit}/cancel
POST /audits/{audit}/rerun
POST /audits/{audit}/pin
POST /audits/{audit}/unpin
"""
ADMIN = """
GET /v1/policies/{name}
PUT /v1/policies/{name}
DELETE /v1/policies/{name}
GET /v1/tokens
POST /v1/tokens
DELETE /v1/tokens/{token}
POST /v1/watches
POST /v1/watches/{watch}/look
DELETE /v1/watches/{watch}
GET /v1/targets
POST /v1/targets
GET /v1/targets/{target}
POST /v1/targets/{target}/on
POST /v1/targets/{target}/off
DELETE /v1/targets/{target}
GET /v1/deliveries
GET /v1/deliveries/{delivery}
POST /v1/deliveries/{delivery}/repeat
"""
NEEDED = {
    tuple(line.split(" ")): scope
    for scope, lines in ((None, ANYBODY), ("read", READ), ("submit", SUBMIT), ("admin", ADMIN))
    for line in lines.split("\n")
    if line
}
ORDER = ("read", "submit", "admin")
FILLED = {"n": "1", "table": "findings", "rule": "CFG001", "name": "strict"}

one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Ids(dict[str, str]):
    """What stands for the parts of an address: ids of nothing that is there."""

    def __missing__(self, name: str) -> str:
        return FILLED.get(name, "0" * 26)


def addresses(routes: Any) -> Iterator[tuple[str, str]]:
    """Each method and path, of routers within routers too."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from addresses(route.original_router.routes)
        else:
            yield from ((method, route.path) for method in route.methods - {"HEAD"})


def ask(client: httpx.Client, method: str, path: str, **headers: str) -> int:
    """The status of an answer."""
    body: dict[str, Any] = {}
    if method in ("POST", "PUT"):
        body = {"json": {}} if path.startswith("/v1/") else {"data": {"a": "b"}}
    return client.request(method, path.format_map(Ids()), headers=headers, **body).status_code


@one_database
def test_every_address_is_on_the_list(service: Service) -> None:
    assert set(addresses(service.app.routes)) == set(NEEDED)


@one_database
def test_every_address_wants_its_scope_before_anything_else(service: Service) -> None:
    nobody, clients = service.client(), {scope: service.client(scope) for scope in ORDER}
    for (method, path), needed in NEEDED.items():
        if needed is None:
            continue
        assert ask(nobody, method, path) == 401, (method, path)
        for shown, client in clients.items():
            status, enough = ask(client, method, path), ORDER.index(shown) >= ORDER.index(needed)
            assert status not in (401, 403) if enough else status == 403, (method, path, shown, status)


@one_database
def test_no_address_that_changes_something_takes_a_session_that_another_site_uses(service: Service) -> None:
    browser = service.client()
    token = service.state.tokens.create("person", ["admin"]).token
    ours = {"Sec-Fetch-Site": "same-origin"}
    assert browser.post("/login", data={"token": token}, headers=ours).status_code == 303
    for method, path in NEEDED:
        if method != "GET" and not path.startswith("/v1/hooks/"):
            assert ask(browser, method, path, **{"Sec-Fetch-Site": "cross-site"}) == 403, (method, path)
            assert ask(browser, method, path) == 403, (method, path)
    assert browser.get("/audits/new").status_code == 200
