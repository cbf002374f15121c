"""Who may do what, and what the service keeps out before it looks at anything."""

import pytest
from fastapi import APIRouter

from auditor.service.web.callers import Admin, Reader, Submitter
from tests.service.web.conftest import Service


@pytest.fixture
def guarded(service: Service) -> Service:
    """With endpoints of each scope, and one that fails."""
    router = APIRouter(prefix="/test")

    @router.get("/read")
    def read(caller: Reader) -> str:
        return caller.name

    @router.post("/submit")
    def submit(caller: Submitter) -> str:
        return caller.name

    @router.get("/admin")
    def admin(caller: Admin) -> str:
        return caller.name

    @router.get("/broken")
    def broken() -> None:
        raise RuntimeError("hunter2")

    service.app.include_router(router)
    return service


def test_without_a_good_token_nothing_is_shown(guarded: Service) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer audtk_" + "0" * 49},
        {"Authorization": "Basic eDp5"},
        {"Authorization": "Bearer"},
        {"Authorization": b"Bearer \xff\xfe"},
    ):
        answer = guarded.client(**headers).get("/test/read")
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_scope_that_is_too_narrow_is_refused(guarded: Service) -> None:
    assert guarded.client("read").get("/test/read").status_code == 200
    assert guarded.client("read").post("/test/submit").status_code == 403
    assert guarded.client("submit").get("/test/admin").status_code == 403
    assert guarded.client("admin").post("/test/submit").status_code == 200


def test_an_unexpected_error_shows_an_id_and_nothing_else(guarded: Service, caplog: pytest.LogCaptureFixture) -> None:
    answer = guarded.client().get("/test/broken")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "hunter2" not in answer.text
    assert answer.json()["id"] in caplog.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_answer_has_the_security_headers(guarded: Service) -> None:
    for path in ("/healthz", "/nowhere", "/test/read"):
        headers = guarded.client().get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_a_host_that_is_not_ours_is_refused(guarded: Service) -> None:
    assert guarded.client(Host="evil.example").get("/healthz").status_code == 400
    assert guarded.client(Host="localhost:1").get("/healthz").status_code == 200


def test_health_needs_no_token_and_readiness_says_what_is_away(guarded: Service) -> None:
    assert guarded.client().get("/healthz").json() == {"status": "ok"}
    answer = guarded.client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"database": "ok", "store": "ok", "worker": "away"}
    assert answer.headers["retry-after"]


def test_wrong_tokens_are_counted_by_address(guarded: Service) -> None:
    client = guarded.client(Authorization="Bearer nonsense")
    statuses = [client.get("/test/read").status_code for _ in range(70)]
    assert statuses[:60] == [401] * 60
    assert 429 in statuses[60:]
    assert int(client.get("/test/read").headers["retry-after"]) >= 1
    assert guarded.client("read").get("/test/read").status_code == 200
