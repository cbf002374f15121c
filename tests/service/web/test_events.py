"""Event streams and waits: told of every change, bounded in number, ended with the service."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from auditor.service.audits.life import Result
from auditor.service.audits.order import Order
from tests.service.web.conftest import Service


@pytest.fixture
def settings(settings):
    web = settings.web.model_copy(update={"streams": 5, "streams_each": 3})
    return settings.model_copy(update={"web": web})


@pytest.fixture
def audit(service: Service, tmp_path: Path) -> str:
    return service.installation.audits.submit(Order(source=str(tmp_path / "a"))).audit


def finish(service: Service, audit: str) -> None:
    report = service.installation.reports.put(b"{}")
    service.installation.audits.conclude(audit, 1, "w", Result(report=report, verdict="passed", tool="1"))


def events(lines: Iterator[str]) -> Iterator[dict]:
    """The events of a stream, each with its fields; comments are passed over."""
    event: dict = {}
    for line in lines:
        if not line:
            if "data" in event:
                yield event | {"data": json.loads(event["data"])}
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


def until(claim, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_stream_tells_the_present_state_each_change_and_ends_with_the_last(service: Service, audit: str) -> None:
    with service.client("read").stream("GET", f"/v1/audits/{audit}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = events(answer.iter_lines())
        first = next(found)
        assert first["event"] == "audit"
        assert first["data"]["state"] == "queued"
        assert first["id"] == str(first["data"]["version"])
        service.installation.audits.begin(audit, 1, "w")
        assert next(found)["data"]["state"] == "running"
        finish(service, audit)
        last = next(found)
        assert last["data"]["state"] == "finished"
        assert next(found, None) is None
    assert last["data"] == service.client("read").get(f"/v1/audits/{audit}").json()


def test_a_stream_goes_on_after_the_last_event_that_came(service: Service, audit: str) -> None:
    version = service.client("read").get(f"/v1/audits/{audit}").json()["version"]
    threading.Timer(0.6, service.installation.audits.begin, (audit, 1, "w")).start()
    headers = {"Last-Event-ID": str(version)}
    with service.client("read").stream("GET", f"/v1/audits/{audit}/events", headers=headers) as answer:
        assert next(events(answer.iter_lines()))["data"]["state"] == "running"
    finish(service, audit)
    last = service.client("read").get(f"/v1/audits/{audit}").json()["version"]
    headers = {"Last-Event-ID": str(last)}
    with service.client("read").stream("GET", f"/v1/audits/{audit}/events", headers=headers) as answer:
        assert [each["data"]["state"] for each in events(answer.iter_lines())] == ["finished"]


def test_a_last_event_that_is_none_of_ours_is_passed_over(service: Service, audit: str) -> None:
    client = service.client("read")
    for last in (b"", b"-1", b"x", b"1.5", "\u0663".encode(), b"9" * 10, b"9" * 5000):
        with client.stream("GET", f"/v1/audits/{audit}/events", headers={b"Last-Event-ID": last}) as answer:
            assert answer.status_code == 200
            assert next(events(answer.iter_lines()))["data"]["state"] == "queued"


def test_streams_are_bounded_for_each_token_and_in_all_and_their_places_come_back(service: Service, audit: str) -> None:
    one, other = service.client("read"), service.client("read")
    path = f"/v1/audits/{audit}/events"
    held = [one.send(one.build_request("GET", path), stream=True) for _ in range(3)]
    assert [each.status_code for each in held] == [200] * 3
    refused = one.get(path)
    assert refused.status_code == 429
    assert refused.headers["retry-after"]
    held += [other.send(other.build_request("GET", path), stream=True) for _ in range(2)]
    assert other.get(path).status_code == 429
    for each in held:
        each.close()
    until(lambda: service.state.watch.open_count == 0, 40)
    with one.stream("GET", path) as again:
        assert again.status_code == 200


def test_a_stream_ends_with_its_token(service: Service, audit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditor.service.web.streams._JUDGED_S", 0.0)
    issued = service.state.tokens.create("leaked", ["read"])
    headers = {"Authorization": f"Bearer {issued.token}"}
    with service.client().stream("GET", f"/v1/audits/{audit}/events", headers=headers) as answer:
        found = events(answer.iter_lines())
        assert next(found)["data"]["state"] == "queued"
        service.state.tokens.revoke(issued.id)
        assert next(found, None) is None


def test_streams_end_when_the_service_stops(service: Service, audit: str) -> None:
    with service.client("read").stream("GET", f"/v1/audits/{audit}/events") as answer:
        found = events(answer.iter_lines())
        next(found)
        began = time.monotonic()
        service.stopped.set()
        assert next(found, None) is None
        assert time.monotonic() - began < 5


def test_an_audit_that_is_not_there_has_no_stream(service: Service) -> None:
    client = service.client("read")
    assert client.get(f"/v1/audits/{'0' * 26}/events").status_code == 404
    assert service.client().get(f"/v1/audits/{'0' * 26}/events").status_code == 401
    assert service.state.watch.open_count == 0


def test_a_submission_can_wait_for_its_end(service: Service, audit: str, tmp_path: Path) -> None:
    service.installation.audits.begin(audit, 1, "w")
    threading.Timer(0.5, finish, (service, audit)).start()
    began = time.monotonic()
    body = {"source": str(tmp_path / "a")}
    answer: httpx.Response = service.client("submit").post("/v1/audits", params={"wait": 30}, json=body)
    assert answer.status_code == 200
    assert answer.json()["id"] == audit
    assert answer.json()["verdict"] == "passed"
    assert time.monotonic() - began < 10
    late = service.client("submit").post("/v1/audits", params={"wait": 1}, json=body)
    assert late.status_code == 202
    assert late.json()["state"] == "queued"
    assert service.state.watch.open_count == 0


def test_a_place_in_the_queue_is_told_as_it_moves(service: Service, audit: str, tmp_path: Path) -> None:
    second = service.installation.audits.submit(Order(source=str(tmp_path / "b"))).audit
    with service.client("read").stream("GET", f"/v1/audits/{second}/events") as answer:
        found = events(answer.iter_lines())
        assert next(found)["data"]["place"] == 2
        service.installation.audits.cancel(audit)
        assert next(found)["data"]["place"] == 1
