"""What is logged is JSON, a line for each record, of a known request or attempt, and without a secret."""

import asyncio
import io
import json
import logging
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from fastapi import FastAPI

from auditor.service import logs
from tests.service.running import Running

Result = TypeVar("Result")
TOKEN = "audtk_" + "a1B2c3D4" * 6


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root, jobs = logging.getLogger(), logging.getLogger("dbos")
    kept = (root.handlers[:], root.level, jobs.handlers[:], jobs.propagate, jobs.level, threading.excepthook)
    yield
    root.handlers[:], jobs.handlers[:], jobs.propagate = kept[0], kept[2], kept[3]
    root.setLevel(kept[1])
    jobs.setLevel(kept[4])
    threading.excepthook = kept[5]
    logging.captureWarnings(False)


@pytest.fixture
def lines():
    stream = io.StringIO()
    logs.begin("info", stream)

    def read() -> list[dict[str, object]]:
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return read


log = logging.getLogger("auditor.test")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """In a thread of its own, as a browser that other tests began has a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def test_record_is_an_object_with_its_own_fields(lines) -> None:
    log.warning("read %d of %d", 1, 2, extra={"worker": "w", "handed_back": ["a"]})
    (line,) = lines()
    assert line.pop("at").endswith("Z")
    assert line == {
        "event": "read 1 of 2",
        "level": "warning",
        "logger": "auditor.test",
        "worker": "w",
        "handed_back": ["a"],
    }


def test_exception_is_in_the_line_of_its_record(lines) -> None:
    try:
        raise ValueError("what")
    except ValueError:
        log.exception("failed")
    (line,) = lines()
    assert str(line["exception"]).splitlines()[-1] == "ValueError: what"


def test_lines_within_have_the_ids_of_what_they_are_of(lines) -> None:
    with logs.bound(audit="a", attempt="a.1"):
        log.info("within")
    log.info("after")
    assert [(line.get("audit"), line.get("attempt")) for line in lines()] == [("a", "a.1"), (None, None)]


def test_threads_that_end_by_an_exception_are_told_of(lines) -> None:
    def fail() -> None:
        raise ValueError("in a thread")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert "ValueError: in a thread" in str(lines()[0]["exception"])


@pytest.mark.parametrize("name", ["uvicorn.error", "dbos"])
def test_others_records_go_the_same_way_and_their_chatter_does_not(lines, name: str) -> None:
    logging.getLogger(name).info("To view and manage workflows, connect to …")
    logging.getLogger(name).warning("trouble")
    assert [(line["logger"], line["event"]) for line in lines()] == [(name, "trouble")]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"token {TOKEN} shown", "token audtk_*** shown"),
        ("with hf_abcdefghijklmnop", "with hf_***"),
        ("signed with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "signed with whsec_***"),
        ("https://me:hunter2@host/path", "https://***@host/path"),
        ("postgresql://me:hunter2@host:5432/db failed", "postgresql://***@host:5432/db failed"),
        ("Authorization: Bearer hunter2", "Authorization: ***"),
        ("Authorization: Basic aHVudGVyMg==", "Authorization: ***"),
        ("{'authorization': 'Bearer hunter2', 'a': 1}", "{'authorization': '***', 'a': 1}"),
        ("Cookie: auditor=abc; other=def", "Cookie: ***"),
        ("X-Webhook-Secret: hunter2", "X-Webhook-Secret: ***"),
        ("password=hunter2 dbname=x", "password=*** dbname=x"),
        ("GET https://host/file?X-Amz-Signature=abc&b=c HTTP", "GET https://host/file?*** HTTP"),
        ("GET /v1/audits?cursor=abc", "GET /v1/audits?***"),
        ("is it there? yes", "is it there? yes"),
        ("the secret of the hook is missing", "the secret of the hook is missing"),
        ("https://host/path", "https://host/path"),
    ],
)
def test_secrets_are_not_logged_wherever_they_stand(lines, text: str, left: str) -> None:
    log.info(text)
    log.info("%s", text, extra={"field": {"in": [text]}})
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("failed")
    found = lines()
    assert found[0]["event"] == found[1]["event"] == left
    assert found[1]["field"] == {"in": [left]}
    assert str(found[2]["exception"]).endswith(f"ValueError: {left}")


def test_record_of_hostile_text_is_one_line(lines) -> None:
    log.info('a\nb\r\x1b[2J\u2028\u202e"}{')
    (line,) = lines()
    assert line["event"] == 'a\nb\r\x1b[2J\u2028\u202e"}{'


def test_on_a_terminal_lines_are_laid_out_and_hostile_text_does_nothing() -> None:
    stream = Terminal()
    logs.begin("info", stream)
    log.info("a\x1b[2Jb\u202e", extra={"name_": "c\x07", "token": TOKEN})
    said = stream.getvalue()
    assert not said.startswith("{")
    assert "\x1b[2J" not in said
    assert "\u202e" not in said
    assert "\x07" not in said
    assert TOKEN not in said


def test_level_leaves_out_what_is_below() -> None:
    stream = io.StringIO()
    logs.begin("warning", stream)
    log.info("not this")
    log.warning("this")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["this"]


@pytest.fixture
def ask():
    """Ask an application that logs its requests."""
    app = FastAPI()
    app.add_middleware(logs.RequestLog)

    @app.api_route("/v1/thing", methods=["GET", "POST"])
    def thing(fail: bool = False) -> str:
        log.info("within the answer")
        if fail:
            raise RuntimeError
        return "x"

    async def answer(method: str, path: str, headers: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, headers=headers)

    return lambda method, path, **headers: run(answer(method, path, headers))


def test_request_has_an_id_that_its_lines_and_its_answer_have(lines, ask) -> None:
    answer = ask("POST", "/v1/thing?secret=hunter2", **{"Authorization": f"Bearer {TOKEN}", "X-Request-Id": "x"})
    within, answered = (line for line in lines() if line["logger"].startswith("auditor"))
    assert within["request"] == answered["request"] == answer.headers["x-request-id"]
    assert len(answer.headers["x-request-id"]) == 16
    assert (answered["method"], answered["path"], answered["status"]) == ("POST", "/v1/thing", 200)
    assert "hunter2" not in json.dumps(lines())
    assert TOKEN not in json.dumps(lines())


def test_reads_are_logged_where_they_fail_and_at_the_level_debug(lines, ask) -> None:
    ask("GET", "/v1/thing")
    ask("GET", "/v1/thing?fail=true")
    assert [line["status"] for line in lines() if line["event"] == "answered"] == [500]
    logging.getLogger().setLevel(logging.DEBUG)
    ask("GET", "/v1/thing")
    assert [line["status"] for line in lines() if line["event"] == "answered"] == [500, 200]


def test_serving_process_logs_requests_and_attempts_and_no_advertisement(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    roots = json.dumps([str(checkpoint.parent)])
    running = Running(tmp_path / "data", "--port", "0", AUDITOR_SERVICE_SOURCES__ROOTS=roots)
    try:
        token = running.token()
        with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {token}"}, timeout=70) as client:
            answer = client.post("/v1/audits?wait=60", json={"source": str(checkpoint)})
            assert answer.json()["state"] == "finished", answer.text
            (first,) = client.get("/v1/tokens").json()["items"]
    finally:
        running.stop()
    told = [line for line in running.lines if not line.startswith("auditor: ")]
    found = [json.loads(line) for line in told]
    asked = next(line for line in found if line["event"] == "answered" and line["method"] == "POST")
    assert asked["request"] == answer.headers["x-request-id"]
    audit = answer.json()["id"]
    assert asked["audit"] == audit
    assert asked["token"] == first["id"]
    tried = [line["event"] for line in found if line.get("attempt") == f"{audit}.1" and line.get("audit") == audit]
    assert tried == ["attempt begun", "attempt ended"]
    assert token not in "".join(told)
    assert "onductor" not in "".join(running.lines)
    assert {line["logger"].split(".")[0] for line in found} == {"auditor"}
