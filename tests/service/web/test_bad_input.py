"""What comes that is none, or no good, is answered as a problem that names the field and echoes nothing."""

import json

import pytest

from tests.service.web.conftest import Service

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"web": settings.web.model_copy(update={"body": 1 << 16})})


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, None),
        (b"", 422, "body"),
        (b"nonsense", 400, None),
        (b"\xff\xfe", 400, None),
        ('{"source": "hf://a/b"}'.encode("utf-16"), 400, None),
        (b'\xef\xbb\xbf{"source": "hf://a/b"}', 400, None),
        (b'{"source": "a", "source": "b"}', 400, None),
        (b'{"source": "a", "priority": NaN}', 400, None),
        (b'{"source": "a", "priority": 1' + b"0" * 5000 + b"}", 400, None),
        (b"[" * 60000, 400, None),
        (b'{"a":' * 10000, 400, None),
        (b"[1]", 422, "body"),
        (b"null", 422, "body"),
        (b"{}", 422, "body.source"),
        (b'{"source": "hunter2", "what": 1}', 422, "body.what"),
        (b'{"source": 7}', 422, "body.source"),
        (b'{"source": "hunter2", "priority": "5"}', 422, "body.priority"),
        (b'{"source": "hunter2", "priority": 1.5}', 422, "body.priority"),
        (b'{"source": "hunter2", "priority": 0}', 422, "body.priority"),
        (b'{"source": "hunter2", "force": "yes"}', 422, "body.force"),
        (b'{"source": "hunter2", "depth": "deep"}', 422, "body.depth"),
        (b'{"source": "hunter2", "seed": -1}', 422, "body.seed"),
        (b'{"source": "hunter2", "seed": 9223372036854775808}', 422, "body.seed"),
        (b'{"source": "hunter2\\u0000"}', 422, "body.source"),
        (b'{"source": "hunter2\\ud800"}', 422, "body.source"),
        (b'{"source": "hunter2\\u202e"}', 422, "body.source"),
        (b'{"source": "' + b"hunter2" * 1000 + b'"}', 422, "body.source"),
        (b'{"source": "https://hunter2:hunter2@huggingface.co/a"}', 422, "body.source"),
        (b'{"source": "file:///hunter2"}', 422, "body.source"),
        (b'{"source": "/etc"}', 422, "body.source"),
        (b'{"source": "hf://a/b", "revision": "a\\u0000"}', 422, "body.revision"),
        (b'{"source": "hf://a/b", "family": "hunter2"}', 422, "body.family"),
        (b'{"source": "hf://a/b", "policy": "../hunter2"}', 422, "body.policy"),
        (b'{"source": "hf://a/b", "policy_text": "hunter2 = \\ud800"}', 422, "body.policy_text"),
        (b'{"source": "hf://a/b", "policy_text": "\\u0000"}', 422, "body.policy_text"),
        (b'{"source": "hf://a/b", "policy_text": "a = 9' + b"9" * 5000 + b'"}', 422, "body.policy_text"),
        (b'{"source": "hf://a/b?token=hunter2"}', 422, "body.source"),
        (b'{"source": "s3://a?sig=hunter2"}', 422, "body.source"),
        (b'{"source": "hf://a/b", "baseline": "hunter2"}', 422, "body.baseline"),
        (b'{"source": "hf://a/b", "baseline": "00000000000000000000000000"}', 422, "body.baseline"),
    ],
)
def test_a_body_that_cannot_be_is_refused(service: Service, body: bytes, status: int, field: str | None) -> None:
    answer = service.client("admin").post("/v1/audits", content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "hunter2" not in answer.text
    if field is not None:
        assert answer.json()["errors"][0]["field"] == field
    assert service.client("read").get("/v1/audits").json()["items"] == []


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "junk"]
)
def test_another_content_type_is_refused(service: Service, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = service.client("admin").post("/v1/audits", content=json.dumps({"source": "hf://a/b"}), headers=headers)
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_that_is_too_long_is_refused_announced_or_not(service: Service) -> None:
    client = service.client("admin")
    body = b'{"source": "' + b"a" * (1 << 17) + b'"}'
    for content in (body, iter([body[: 1 << 16], body[1 << 16 :]])):
        answer = client.post("/v1/audits", content=content, headers=JSON)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"


def test_parameters_that_cannot_be_are_named(service: Service) -> None:
    client = service.client("admin")
    body = {"source": "hf://a/b"}
    assert client.post("/v1/audits?wait=61", json=body).json()["errors"][0]["field"] == "query.wait"
    for key in ("", "a b", "é", "a" * 256):
        answer = client.post("/v1/audits", json=body, headers={b"Idempotency-Key": key.encode()})
        assert answer.json()["errors"][0]["field"] == "header.idempotency-key"
    for path in ("/v1/audits/x", "/v1/audits/%00", "/v1/audits/" + "A" * 26):
        assert client.get(path).json()["errors"][0]["field"] == "path.audit"
    assert client.get(f"/v1/audits/{'0' * 26}/attempts/x/log").status_code == 422


def test_an_address_or_a_method_that_is_not_there_is_a_problem_too(service: Service) -> None:
    client = service.client("admin")
    for answer, status in (
        (client.get("/v1/nothing"), 404),
        (client.put("/v1/audits"), 405),
        (client.request("PROPFIND", "/v1/audits"), 405),
    ):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
