"""Audits over the API: asked for once, listed in pages, cancelled, made again."""

from pathlib import Path

import pytest

from auditor.service.audits.life import Result
from tests.service.web.conftest import Service


@pytest.fixture
def source(tmp_path: Path) -> str:
    return str(tmp_path / "model")


def finish(service: Service, audit: str, verdict: str = "passed", n: int = 1) -> None:
    audits = service.installation.audits
    assert audits.begin(audit, n, "w") is not None
    report = service.installation.reports.put(b"{}")
    assert audits.conclude(audit, n, "w", Result(report=report, verdict=verdict, tool="1")) == "finished"


def test_an_audit_is_accepted_and_can_be_asked_about(service: Service, source: str) -> None:
    client = service.client("submit")
    answer = client.post("/v1/audits", json={"source": source, "depth": "full", "priority": 2})
    assert answer.status_code == 202
    assert int(answer.headers["retry-after"]) > 0
    shown = client.get(answer.headers["location"]).json()
    assert shown == answer.json()
    assert shown["state"] == "queued"
    assert shown["place"] == 1
    assert shown["source"] == source
    assert shown["depth"] == "full"
    assert shown["links"]["report"] is None


def test_equal_requests_that_are_not_final_are_one_audit(service: Service, source: str) -> None:
    client = service.client("submit")
    first = client.post("/v1/audits", json={"source": source}).json()["id"]
    assert client.post("/v1/audits", json={"source": f"{source}/", "priority": 9}).json()["id"] == first
    assert client.post("/v1/audits", json={"source": source, "depth": "full"}).json()["id"] != first
    finish(service, first)
    assert client.post("/v1/audits", json={"source": source}).json()["id"] != first


def test_a_key_makes_a_repetition_the_same_audit_even_when_it_is_final(service: Service, source: str) -> None:
    client = service.client("submit")
    key = {"Idempotency-Key": "one"}
    first = client.post("/v1/audits", json={"source": source}, headers=key)
    finish(service, first.json()["id"])
    again = client.post("/v1/audits", json={"source": source}, headers=key)
    assert again.status_code == 200
    assert again.json()["id"] == first.json()["id"]
    other = client.post("/v1/audits", json={"source": source, "depth": "full"}, headers=key)
    assert other.status_code == 422
    assert other.json()["errors"][0]["field"] == "header.idempotency-key"
    others = service.client("submit").post("/v1/audits", json={"source": source}, headers=key)
    assert others.json()["id"] != first.json()["id"]


def test_a_policy_in_a_request_needs_the_scope_admin(service: Service, source: str) -> None:
    body = {"source": source, "policy_text": '[require]\ndepth = "headers"\n'}
    assert service.client("submit").post("/v1/audits", json=body).status_code == 403
    answer = service.client("admin").post("/v1/audits", json=body)
    assert answer.status_code == 202
    assert len(answer.json()["policy_sha256"]) == 64
    wrong = service.client("admin").post("/v1/audits", json=body | {"policy_text": "nonsense = 1"})
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["field"] == "body.policy_text"
    absent = service.client("submit").post("/v1/audits", json={"source": source, "policy": "strict"})
    assert absent.status_code == 422
    assert absent.json()["errors"][0]["field"] == "body.policy"


def test_lists_have_pages_of_a_stable_order(service: Service, source: str) -> None:
    client = service.client("submit")
    made = [client.post("/v1/audits", json={"source": f"{source}{n}"}).json()["id"] for n in range(7)]
    listed, cursor = [], None
    while True:
        page = client.get("/v1/audits", params={"limit": 3} | ({"next": cursor} if cursor else {})).json()
        listed += [each["id"] for each in page["items"]]
        if len(listed) == 3:
            client.post("/v1/audits", json={"source": f"{source}x"})  # what comes meanwhile moves nothing
        cursor = page["next"]
        if cursor is None:
            break
    assert listed == sorted(made, reverse=True)


def test_a_cursor_that_was_tampered_with_or_is_anothers_is_refused(service: Service, source: str) -> None:
    client = service.client("submit")
    for n in range(3):
        client.post("/v1/audits", json={"source": f"{source}{n}"})
    cursor = client.get("/v1/audits", params={"limit": 1}).json()["next"]
    assert client.get("/v1/audits", params={"limit": 1, "next": cursor}).status_code == 200
    for params in (
        *({"next": cursor[:-1] + other} for other in "ABCDEFGHabcdefgh0123-_" if other != cursor[-1]),
        {"next": cursor, "state": "queued"},
        {"next": "x"},
        {"next": "é\x00"},
    ):
        assert client.get("/v1/audits", params=params).status_code == 400


def test_a_list_is_filtered_in_the_database(service: Service, source: str) -> None:
    client = service.client("submit")
    ids = [client.post("/v1/audits", json={"source": f"{source}{n}"}).json()["id"] for n in range(4)]
    finish(service, ids[0], "passed")
    finish(service, ids[1], "failed")
    client.post(f"/v1/audits/{ids[2]}/cancel")

    def found(**params: object) -> list[str]:
        answer = client.get("/v1/audits", params=params)
        assert answer.status_code == 200, answer.text
        return [each["id"] for each in answer.json()["items"]]

    assert found(state="finished") == [ids[1], ids[0]]
    assert found(state=["queued", "cancelled"]) == [ids[3], ids[2]]
    assert found(verdict="failed") == [ids[1]]
    assert found(source=f"{source}3") == [ids[3]]
    assert found(source=f"{source}none") == []
    assert found(depth="full") == []
    at = client.get(f"/v1/audits/{ids[2]}").json()
    assert found(checkpoint=at["checkpoint"]) == [ids[2]]
    assert ids[2] in found(since=at["created_at"])
    assert ids[2] not in found(until=at["created_at"])
    for params in ({"state": "lost"}, {"limit": 0}, {"limit": 201}, {"since": "yesterday"}, {"what": 1}):
        assert client.get("/v1/audits", params=params).status_code == 422


def test_a_cancelled_audit_stays_cancelled_and_a_finished_one_cannot_be(service: Service, source: str) -> None:
    client = service.client("submit")
    first = client.post("/v1/audits", json={"source": source}).json()["id"]
    for _ in range(2):
        answer = client.post(f"/v1/audits/{first}/cancel")
        assert answer.status_code == 200
        assert answer.json()["state"] == "cancelled"
    second = client.post("/v1/audits", json={"source": source}).json()["id"]
    finish(service, second)
    assert client.post(f"/v1/audits/{second}/cancel").status_code == 409
    assert client.post(f"/v1/audits/{'0' * 26}/cancel").status_code == 404


def test_an_audit_is_made_again_as_it_was_asked_for(service: Service, source: str) -> None:
    client = service.client("submit")
    first = client.post("/v1/audits", json={"source": source, "depth": "sample", "seed": 7}).json()["id"]
    assert client.post(f"/v1/audits/{first}/rerun").status_code == 409
    finish(service, first)
    again = client.post(f"/v1/audits/{first}/rerun", headers={"Idempotency-Key": "k"})
    assert again.status_code == 202
    assert again.json()["id"] != first
    assert again.json()["seed"] == 7
    assert again.json()["force"]
    same = client.post(f"/v1/audits/{first}/rerun", headers={"Idempotency-Key": "k"})
    assert same.json()["id"] == again.json()["id"]


def test_an_audit_is_pinned_and_unpinned(service: Service, source: str) -> None:
    client = service.client("submit")
    audit = client.post("/v1/audits", json={"source": source}).json()["id"]
    assert client.put(f"/v1/audits/{audit}/pin").json()["pinned"]
    assert client.put(f"/v1/audits/{audit}/pin").json()["pinned"]
    assert not client.delete(f"/v1/audits/{audit}/pin").json()["pinned"]
    assert client.put(f"/v1/audits/{'0' * 26}/pin").status_code == 404


def test_the_log_of_an_attempt_is_there_while_it_runs(service: Service, source: str) -> None:
    client = service.client("submit")
    audit = client.post("/v1/audits", json={"source": source}).json()
    assert client.get(audit["links"]["log"]).status_code == 404
    service.installation.audits.begin(audit["id"], 1, "w")
    service.installation.audits.tell("w", {(audit["id"], 1): ('{"what": "bytes", "done": 1, "total": 2}', "hello\n")})
    answer = client.get(audit["links"]["log"])
    assert answer.text == "hello\n"
    assert answer.headers["content-type"].startswith("text/plain")
    assert client.get(f"/v1/audits/{audit['id']}").json()["progress"] == {
        "what": "bytes",
        "done": 1,
        "total": 2,
        "why": None,
    }
    attempt = client.get(f"/v1/audits/{audit['id']}/attempts").json()[0]
    assert attempt["n"] == 1
    assert attempt["worker"] == "w"


def test_an_unknown_audit_and_one_that_is_there_are_refused_alike(service: Service, source: str) -> None:
    there = service.client("submit").post("/v1/audits", json={"source": source}).json()["id"]
    for client in (service.client(), service.client(Authorization="Bearer audtk_x")):
        answers = [client.get(f"/v1/audits/{each}") for each in (there, "0" * 26)]
        assert [each.status_code for each in answers] == [401, 401]
        assert answers[0].text == answers[1].text
    reader = service.client("read")
    answers = [reader.post(f"/v1/audits/{each}/cancel") for each in (there, "0" * 26)]
    assert [each.status_code for each in answers] == [403, 403]
    assert answers[0].text == answers[1].text
