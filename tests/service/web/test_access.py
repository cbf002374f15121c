"""Who may do what, and what the service keeps out before it looks at anything."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi import APIRouter
from sqlalchemy import event

from auditor.service.settings import Settings
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
    for name in ("evil.example", "localhost.evil.example", "x@localhost", "localhost/x", "[::1", ""):
        answer = guarded.client(Host=name).get("/healthz")
        assert answer.status_code == 400, name
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["title"] == "The request cannot be read"
        assert "evil" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
    for name in ("localhost:1", "LOCALHOST", "127.0.0.1", "[::1]:80"):
        assert guarded.client(Host=name).get("/healthz").status_code == 200, name


def test_health_needs_no_token_and_readiness_says_what_is_away(guarded: Service) -> None:
    assert guarded.client().get("/healthz").json() == {"status": "ok"}
    answer = guarded.client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"database": "ok", "store": "ok", "worker": "away"}
    assert answer.headers["retry-after"]


def test_readiness_is_looked_for_once_a_second_however_many_ask(guarded: Service) -> None:
    asked: list[str] = []
    with guarded.installation.database.read() as connection:
        event.listen(connection.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    client = guarded.client()
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.get("/readyz").json(), range(40)))
    assert all(each == answers[0] for each in answers)
    looks = sum("FROM workers" in each for each in asked)
    assert 1 <= looks <= 1 + (time.monotonic() - begun)


def test_wrong_tokens_are_counted_by_address(guarded: Service) -> None:
    client = guarded.client(Authorization="Bearer nonsense")
    statuses = [client.get("/test/read").status_code for _ in range(130)]  # more than 70: a minute may turn in between
    assert statuses[:60] == [401] * 60
    assert 429 in statuses[60:]
    assert int(client.get("/test/read").headers["retry-after"]) >= 1
    assert guarded.client("read").get("/test/read").status_code == 200


def signed_in(guarded: Service) -> tuple[httpx.Client, str]:
    """A browser's session, and the id of the token that it came from."""
    issued = guarded.state.tokens.create("person", ["submit"])
    browser = guarded.client()
    answer = browser.post("/login", data={"token": issued.token}, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert issued.token.lower() not in cookie
    return browser, issued.id


def test_a_session_reads_and_ends_with_its_token(guarded: Service) -> None:
    browser, token = signed_in(guarded)
    assert browser.get("/test/read").status_code == 200
    assert browser.get("/test/admin").status_code == 403
    guarded.state.tokens.revoke(token)
    assert browser.get("/test/read").status_code == 401


def test_a_session_is_not_another_sites_to_use(guarded: Service) -> None:
    browser, _ = signed_in(guarded)
    for headers, status in (
        ({}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": guarded.url}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": guarded.url}, 200),
    ):
        assert browser.post("/test/submit", headers=headers).status_code == status, headers
    # A token that is shown with each request is nobody else's to send.
    assert guarded.client("submit").post("/test/submit", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_a_cookie_that_is_made_up_is_nobodys(guarded: Service) -> None:
    browser, token = signed_in(guarded)
    value = browser.cookies["auditor"]
    for forged in (value[:-2] + "xx", f"{token}.{value.partition('.')[2]}", "x", "é"):
        assert guarded.client(Cookie=f"auditor={forged}").get("/test/read").status_code == 401


class TestPublicRead:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"web": settings.web.model_copy(update={"public_read": True})})

    def test_reading_needs_no_token_and_anything_else_does(self, guarded: Service) -> None:
        client = guarded.client()
        assert client.get("/test/read").status_code == 200
        assert client.post("/test/submit").status_code == 401
        assert client.get("/test/admin").status_code == 401
        assert guarded.client(Authorization="Bearer wrong").get("/test/read").status_code == 401


class TestLimits:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"web": settings.web.model_copy(update={"reads": 5, "writes": 2})})

    def test_requests_are_counted_by_token(self, guarded: Service) -> None:
        _wait_where_a_minute_is_about_to_turn()
        one, other = guarded.client("submit"), guarded.client("submit")
        assert [one.get("/test/read").status_code for _ in range(7)] == [200] * 5 + [429] * 2
        assert int(one.get("/test/read").headers["retry-after"]) >= 1
        assert [one.post("/test/submit").status_code for _ in range(3)] == [200, 200, 429]
        assert other.get("/test/read").status_code == 200


def _wait_where_a_minute_is_about_to_turn() -> None:
    """Of the requests of a minute that is over some no longer count."""
    left = 60 - time.time() % 60
    if left < 3:
        time.sleep(left)


class TestProxies:
    @pytest.fixture
    def settings(self, settings: Settings, request: pytest.FixtureRequest) -> Settings:
        web = settings.web.model_copy(update={"public_read": True, "reads": 2, "proxies": request.param})
        return settings.model_copy(update={"web": web})

    @pytest.mark.parametrize(
        ("settings", "statuses"), [((), [200, 200, 429]), (("127.0.0.1",), [200] * 3)], indirect=["settings"]
    )
    def test_whom_a_proxy_speaks_for_is_believed_of_those_that_are_named(
        self, guarded: Service, statuses: list[int]
    ) -> None:
        _wait_where_a_minute_is_about_to_turn()
        client = guarded.client()
        forwarded = [{"X-Forwarded-For": f"203.0.113.{n}"} for n in range(3)]
        assert [client.get("/test/read", headers=each).status_code for each in forwarded] == statuses

    @pytest.mark.parametrize("settings", [("127.0.0.1",)], indirect=True)
    def test_the_addresses_of_one_network_of_ipv6_are_one(self, guarded: Service) -> None:
        _wait_where_a_minute_is_about_to_turn()
        client = guarded.client()

        def statuses(*addresses: str) -> list[int]:
            every = [{"X-Forwarded-For": each} for each in addresses]
            return [client.get("/test/read", headers=each).status_code for each in every]

        assert statuses("2001:db8:1:1::1", "2001:db8:1:1:2::", "2001:db8:1:1::3", "2001:db8:1:2::1") == [
            200,
            200,
            429,
            200,
        ]
        assert statuses("::ffff:203.0.113.1", "203.0.113.1", "::ffff:203.0.113.1") == [200, 200, 429]
