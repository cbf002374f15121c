"""Checkpoints on pages: the list, the history of one, the badge and the lasting link."""

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from sqlalchemy import event, insert

from auditor.service.audits.life import Result
from auditor.service.audits.order import Order
from auditor.service.settings import Settings
from auditor.service.store.database import Database, new_id
from auditor.service.store.tables import audits, checkpoints
from tests.service.web.conftest import Service
from tests.service.web.pages.conftest import HOSTILE, SHOWN, People, checkpoint_id, finish, words


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, migrated_file: Path, tmp_path: Path) -> str:
    """Lists are the database's to filter and to cut: on both."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres").database(request.getfixturevalue("migrated")))
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    shutil.copy(migrated_file, data / "auditor.sqlite3")
    return f"sqlite:///{data / 'auditor.sqlite3'}"


def plans(database: Database, statements: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """How SQLite finds what these statements ask for."""
    with database.read() as connection:
        for statement, parameters in statements:
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
                yield row.detail


def sources(page: httpx.Response) -> list[str]:
    return re.findall(r'<a href="/checkpoints/[0-9a-f]{26}">([^<]*)</a>', page.text)


def test_each_checkpoint_is_shown_by_its_latest_verdict_the_latest_first(people: People, service: Service) -> None:
    finish(service, "hf://org/old", "failed", errors=2, warnings=1)
    for verdict in ("failed", "passed"):
        finish(service, "hf://org/new", verdict)
    service.installation.audits.submit(Order(source="hf://org/waits"))
    page = people.somebody("read").get("/")
    assert sources(page) == ["hf://org/waits", "hf://org/new", "hf://org/old"]
    text = words(page)
    assert "hf://org/new depth headers ✔ Passed no error or warning ✘ ✔ just now" in re.sub(r" +", " ", text).replace(
        " no error or warning ✔ Passed", " ✔ Passed"
    )
    assert "2 errors, 1 warning" in text
    assert "not audited yet · ○ waiting" in text
    assert "All 3" in text
    assert "✘ Failed 1" in text
    assert "No report yet 1" in text


def test_a_checkpoint_whose_audit_gave_no_report_says_why(people: People, service: Service) -> None:
    audits = service.installation.audits
    audit = audits.submit(Order(source="hf://org/gone")).audit
    audits.begin(audit, 1, "w")
    audits.conclude(audit, 1, "w", Result(causes=("not_found",), reason=f"no such repository {HOSTILE}"))
    page = people.somebody("read").get("/")
    assert "not audited yet · ! no report" in words(page)
    assert f'href="/audits/{audit}"' in page.text
    assert page.text.count(f"no such repository {SHOWN}") == 2  # beside it, and below it on a phone


def test_checkpoints_are_found_by_words_and_by_verdict(people: People, service: Service) -> None:
    finish(service, "hf://org/Alpha_1", "failed")
    finish(service, "hf://org/alpha-2")
    service.installation.audits.submit(Order(source="hf://org/beta%"))
    client = people.somebody("read")
    assert sources(client.get("/?text=ALPHA+org")) == ["hf://org/alpha-2", "hf://org/Alpha_1"]
    assert sources(client.get("/?text=a_")) == ["hf://org/Alpha_1"]
    assert sources(client.get("/?text=%25")) == ["hf://org/beta%"]
    assert sources(client.get("/?verdict=failed")) == ["hf://org/Alpha_1"]
    assert sources(client.get("/?verdict=none")) == ["hf://org/beta%"]
    assert "No checkpoint matches" in client.get("/?text=gamma").text
    assert client.get("/?verdict=nonsense").status_code == 422
    assert client.get("/?text=%00").status_code == 422


def test_a_page_of_a_thousand_checkpoints_is_found_by_indexes_alone(people: People, service: Service) -> None:
    made = [
        {"id": new_id(n), "source": f"hf://org/model-{n}", "created_at": n, "latest_at": n // 7} for n in range(1000)
    ]
    done = [
        {
            "id": new_id(n * 10 + k), "checkpoint": each["id"], "source": each["source"], "depth": "headers",
            "force": False, "priority": 5, "queue": "headers", "host": "hf", "request": f"{n}",
            "created_at": n * 10 + k, "due_at": 0, "state": "finished", "ended_at": n,
            "verdict": "passed", "errors": 0, "warnings": 0, "report": "a" * 64,
        }
        for n, each in enumerate(made)
        for k in range(5)
    ]  # fmt: skip
    for n, each in enumerate(made):
        each["latest_audit"] = done[n * 5 + 4]["id"]
    with service.installation.database.write() as connection:
        connection.execute(insert(checkpoints), made)
        connection.execute(insert(audits), done)
    client = people.somebody("read")
    asked: list[tuple[str, Any]] = []
    database = service.installation.database
    with database.read() as connection:
        event.listen(connection.engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
    seen, place, statements = [], "/", {}
    while place:
        asked.clear()
        page = client.get(place)
        statements |= dict(asked)
        assert len(asked) <= 50 + 8, "one for each line's history, and few for the page"
        seen += sources(page)
        found = re.search(r'<a href="([^"]*)" rel="next">', page.text)
        place = found[1].replace("&amp;", "&") if found else ""
    assert len(seen) == len(set(seen)) == 1000
    assert seen[0] in {f"hf://org/model-{n}" for n in range(994, 1000)}
    if database.sqlite:
        through = set(plans(database, statements.items()))
        assert {each.split()[1] for each in through if each.startswith("SCAN ")} <= {
            "checkpoints",
            "CONSTANT",
            "(subquery-1)",
        }
        assert "USE TEMP B-TREE FOR ORDER BY" not in through, "no list is sorted whole to be cut"


def test_a_cursor_that_was_tampered_with_is_no_page(people: People) -> None:
    answer = people.somebody("read").get("/?next=WzEsMl0.x")
    assert answer.status_code == 400
    assert "The request cannot be read" in words(answer)


def test_the_history_of_a_checkpoint_has_every_audit_and_offers_to_compare_the_last_two(
    people: People, service: Service
) -> None:
    ids = [finish(service, "hf://org/m", verdict, resolved="c" * 40) for verdict in ("failed", "passed", "passed")]
    waits = service.installation.audits.submit(Order(source="hf://org/m")).audit
    page = people.somebody("read").get(f"/checkpoints/{checkpoint_id(service, 'hf://org/m')}")
    assert re.findall(r'href="/audits/([0-9a-f]{26})" aria', page.text) == [waits, *reversed(ids)]
    assert f'name="old" value="{ids[1]}" checked' in page.text
    assert f'name="new" value="{ids[2]}" checked' in page.text
    assert f'value="{waits}"' not in page.text
    assert "Audit again" not in page.text
    assert "Audit again" in people.somebody("submit").get(page.url.path).text


def test_hostile_sources_are_text_everywhere(people: People, service: Service) -> None:
    audit = finish(service, HOSTILE)
    failed = service.installation.audits.submit(Order(source=HOSTILE, depth="full", origin=HOSTILE)).audit
    service.installation.audits.begin(failed, 1, "w")
    client, which = people.somebody("submit"), checkpoint_id(service, HOSTILE)
    for place in ("/", "/audits", f"/checkpoints/{which}", f"/audits/{audit}", f"/audits/{failed}", "/queue"):
        page = client.get(place)
        assert page.status_code == 200
        assert SHOWN in page.text, place
        for raw in ("<script>alert", "<img src=x", "\u202e", "\x1b"):
            assert raw not in page.text
    picture = client.get(f"/checkpoints/{which}/badge.svg")
    assert SHOWN in picture.text
    ElementTree.fromstring(picture.content)


def test_the_badge_says_the_latest_verdict_in_words_and_may_be_shown_elsewhere(
    people: People, service: Service
) -> None:
    finish(service, "hf://org/m", "failed")
    client = people.somebody("read")
    by_source = client.get("/badge", params={"source": "hf://org/m"})
    by_id = client.get("/badge", params={"checkpoint": checkpoint_id(service, "hf://org/m")})
    assert by_source.text == by_id.text
    assert by_source.headers["content-type"] == "image/svg+xml"
    assert "script" not in by_source.text
    assert "✘ failed, headers" in by_source.text
    assert by_source.headers["cache-control"] == "private, max-age=60"
    assert by_source.headers["cross-origin-resource-policy"] == "cross-origin"
    etag = by_source.headers["etag"]
    assert client.get("/badge", params={"source": "hf://org/m"}, headers={"If-None-Match": etag}).status_code == 304
    finish(service, "hf://org/m")
    after = client.get("/badge", params={"source": "hf://org/m"}, headers={"If-None-Match": etag})
    assert "✔ passed" in after.text
    assert "no report" in client.get("/badge", params={"source": "hf://org/none"}).text
    assert client.get("/badge").status_code == 422
    assert client.get("/badge", params={"checkpoint": "x"}).status_code == 422


def test_the_lasting_link_leads_to_the_latest_report(people: People, service: Service) -> None:
    client = people.somebody("read")
    assert client.get("/report", params={"source": "hf://org/m"}).status_code == 404
    for _ in range(2):
        audit = finish(service, "hf://org/m")
        for place in (f"/checkpoints/{checkpoint_id(service, 'hf://org/m')}/report", "/report?source=hf://org/m"):
            answer = client.get(place)
            assert answer.status_code == 302
            assert answer.headers["location"] == f"/audits/{audit}/report"
            assert answer.headers["cache-control"] == "no-store"


def test_a_pull_request_is_in_the_history_and_changes_no_badge_link_or_verdict(
    people: People, service: Service
) -> None:
    client = people.somebody("read")
    audit = finish(service, "hf://org/m")
    pull = finish(service, "hf://org/m", "failed", revision="refs/pr/3")
    checkpoint = checkpoint_id(service, "hf://org/m")
    assert "✔ passed" in client.get("/badge", params={"source": "hf://org/m"}).text
    assert client.get(f"/checkpoints/{checkpoint}/report").headers["location"] == f"/audits/{audit}/report"
    assert "✘ Failed 0" in words(client.get("/"))
    assert f"/audits/{pull}" in client.get(f"/checkpoints/{checkpoint}").text


def test_without_a_token_nothing_is_shown_of_what_there_is_and_of_what_there_is_not(
    people: People, service: Service
) -> None:
    audit = finish(service, "hf://org/m")
    client, which = people.nobody(), checkpoint_id(service, "hf://org/m")
    real = ["/", "/audits", "/queue", f"/checkpoints/{which}", f"/audits/{audit}", f"/audits/{audit}/report",
            f"/checkpoints/{which}/badge.svg", "/audits/new"]  # fmt: skip
    for place in [*real, f"/checkpoints/{'0' * 26}", f"/audits/{'0' * 26}"]:
        answer = client.get(place)
        assert answer.status_code == 401, place
        assert "hf://org/m" not in answer.text


class TestPublicRead:
    """Where reading is public."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"web": settings.web.model_copy(update={"public_read": True})})

    def test_whoever_comes_reads_and_changes_nothing(self, people: People, service: Service) -> None:
        audit = finish(service, "hf://org/m")
        client, which = people.nobody(), checkpoint_id(service, "hf://org/m")
        for place in ("/", "/audits", "/queue", "/rules", f"/checkpoints/{which}", f"/audits/{audit}"):
            page = client.get(place)
            assert page.status_code == 200
            assert "Sign in" in words(page)
            assert "New audit" not in page.text
            assert "Run again" not in page.text
        badge = client.get(f"/checkpoints/{which}/badge.svg")
        assert badge.headers["cache-control"] == "public, max-age=60"
        assert client.get("/audits/new").status_code == 401
        assert client.post(f"/audits/{audit}/pin", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 401
