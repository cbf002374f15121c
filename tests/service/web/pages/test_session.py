"""Signing in on the pages, and what others see."""

import pytest

from auditor.service.settings import Settings
from auditor.service.web.pages.session import local
from tests.servers.postgres import Postgres
from tests.service.web.conftest import Service
from tests.service.web.pages.conftest import BROWSER, OURS, People, words


def test_whoever_signs_in_with_a_good_token_sees_the_page_they_wanted(people: People, service: Service) -> None:
    client = people.nobody()
    refused = client.get("/rules?text=scale")
    assert refused.status_code == 401
    assert 'value="/rules?text=scale"' in refused.text
    token = service.state.tokens.create("ann", ("read",)).token
    answer = client.post("/login", data={"token": f" {token} ", "next": "/rules?text=scale"}, headers=OURS)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/rules?text=scale"
    assert "Signed in as ann" in words(client.get("/rules"))


def test_the_cookie_holds_no_token_and_is_kept_from_scripts_and_other_sites(people: People, service: Service) -> None:
    token = service.state.tokens.create("ann", ("read",)).token
    cookie = people.nobody().post("/login", data={"token": token}, headers=OURS).headers["set-cookie"]
    assert cookie.startswith("auditor=")
    assert token.removeprefix("audtk_") not in cookie
    assert "httponly" in cookie.lower()
    assert "samesite=lax" in cookie.lower()


def test_revoking_the_token_ends_the_session(people: People, service: Service) -> None:
    client = people.somebody("read")
    assert client.get("/rules").status_code == 200
    (token,) = service.state.tokens.every()
    service.state.tokens.revoke(token.id)
    assert client.get("/rules").status_code == 401


def test_whoever_signs_out_is_nobody_again(people: People) -> None:
    client = people.somebody("read")
    assert client.post("/logout", data={}, headers=OURS).status_code == 303
    assert client.get("/rules").status_code == 401


def test_a_wrong_token_is_told_beside_the_field_and_counted(people: People, service: Service) -> None:
    client = people.nobody()
    answer = client.post("/login", data={"token": "audtk_nothing"}, headers=OURS)
    assert answer.status_code == 401
    assert 'aria-invalid="true"' in answer.text
    assert "unknown, expired or revoked" in words(answer)
    assert "audtk_nothing" not in answer.text
    statuses = [client.post("/login", data={"token": "x"}, headers=OURS).status_code for _ in range(70)]
    assert statuses[-1] == 429


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_forms_that_another_site_sends_are_refused(people: People, service: Service, headers: dict[str, str]) -> None:
    token = service.state.tokens.create("ann", ("read",)).token
    assert people.nobody().post("/login", data={"token": token}, headers=headers).status_code == 403
    client = people.somebody("read")
    assert client.post("/logout", data={}, headers=headers).status_code == 403
    assert client.get("/rules").status_code == 200


def test_a_form_from_our_own_origin_is_taken(people: People, service: Service) -> None:
    token = service.state.tokens.create("ann", ("read",)).token
    assert people.nobody().post("/login", data={"token": token}, headers={"Origin": service.url}).status_code == 303


@pytest.mark.parametrize(
    "place",
    ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "/a\r\nb", "evil", "",
     "/é", "//[", "\\/evil.example"],
)  # fmt: skip
def test_signing_in_leads_nowhere_else(place: str) -> None:
    assert local(place) == "/"
    assert local("/audits?state=queued") == "/audits?state=queued"


def test_the_link_to_sign_in_leads_back(people: People, service: Service) -> None:
    client = people.nobody()
    for came, place in (
        (f"{service.url}/audits?state=queued", "/audits?state=queued"),
        (f"{service.url}/login", "/"),
        ("https://evil.example/audits", "/"),
        (f"{service.url}.evil.example/audits", "/"),
        (f"{service.url}//evil.example/audits", "/"),
        ("http://[", "/"),
        ("", "/"),
    ):
        assert f'name="next" value="{place}"' in client.get("/login", headers={"Referer": came}).text


def test_whoever_is_signed_in_is_so_on_pages_of_problems(people: People) -> None:
    client = people.somebody("read")
    assert "Signed in as test" in words(client.get("/nowhere"))
    assert "Signed in as test" in words(client.get("/audits/new"))
    assert "Sign in" in words(people.nobody().get("/nowhere"))


def test_what_is_no_form_is_refused(people: People) -> None:
    client = people.nobody()
    for body, kind, status in (
        (b"{}", "application/json", 415),
        (b"token=\xff", "application/x-www-form-urlencoded", 400),
        (b"token=%ff", "application/x-www-form-urlencoded", 400),
        (b"&".join([b"a=1"] * 100), "application/x-www-form-urlencoded", 400),
        (b"a" * (2 << 20), "application/x-www-form-urlencoded", 413),
    ):
        answer = client.post("/login", content=body, headers={**OURS, "Content-Type": kind})
        assert answer.status_code == status


def test_problems_are_pages_for_people_and_problems_for_programs(people: People, service: Service) -> None:
    client = people.somebody("read")
    page = client.get("/nowhere")
    assert page.status_code == 404
    assert "There is no such thing" in words(page)
    assert page.headers["x-content-type-options"] == "nosniff"
    for path, headers in (("/v1/nowhere", BROWSER), ("/nowhere", {"Accept": "application/json"})):
        assert client.get(path, headers=headers).headers["content-type"] == "application/problem+json"


def test_too_many_requests_are_a_page_that_says_when_there_is_room(people: People) -> None:
    client = people.nobody()
    for _ in range(200):  # 60 a minute, and some more where a minute turns in between
        answer = client.get("/", headers={"Authorization": "Bearer x"})
        if answer.status_code == 429:
            break
    assert answer.status_code == 429
    assert f"Try again in {answer.headers['retry-after']} s." in words(answer)


class TestOverTls:
    """Where people reach the service over TLS, by a proxy."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"public_url": "https://audits.example"})

    def test_the_cookie_is_bound_to_this_host_and_to_tls(self, people: People, service: Service) -> None:
        token = service.state.tokens.create("ann", ("read",)).token
        client = people.nobody()
        answer = client.post("/login", data={"token": token}, headers={"Origin": "https://audits.example"})
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-auditor=")
        assert {"path=/", "secure", "httponly", "samesite=lax"} <= {
            each.strip().lower() for each in cookie.split(";")[1:]
        }
        assert "domain" not in cookie.lower()


class TestWithoutDatabase:
    """Where the database goes away while the service runs."""

    @pytest.fixture
    def database_url(self, postgres: Postgres, migrated: str) -> str:
        return postgres.database(migrated)

    def test_pages_say_that_the_service_cannot_answer_just_now(
        self, people: People, service: Service, postgres: Postgres, database_url: str
    ) -> None:
        client = people.somebody("read")
        postgres.drop(database_url)
        answer = client.get("/")
        assert answer.status_code == 503
        assert answer.headers["content-type"].startswith("text/html")
        assert "It cannot answer just now, and can again soon." in words(answer)
        assert int(answer.headers["retry-after"]) >= 1


def test_names_of_tokens_are_text(people: People) -> None:
    page = people.somebody("read", name="<img src=x onerror=alert(1)>\u202e").get("/rules")
    assert "<img" not in page.text
    assert "&lt;img src=x onerror=alert(1)&gt;\\u202e" in page.text
