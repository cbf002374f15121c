"""Deliveries: added with the final state, tried for a day, kept with the last answer, and repeatable."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Row, insert, select, update
from standardwebhooks import Webhook

from auditor.errors import UsageError
from auditor.service.installation import Installation
from auditor.service.notify.deliveries import DELAYS_S, Deliveries
from auditor.service.notify.targets import Targets
from auditor.service.settings import Settings
from auditor.service.store.tables import audits
from auditor.service.store.tables import deliveries as delivery_rows
from auditor.service.store.tables import targets as target_rows
from tests.servers.serving import Reply, Request, Server
from tests.service.notify.conftest import COMMIT, OTHER, SECRET, End, Told

Deliver = Callable[[], Row[Any]]


def verified(request: Request, secret: str = SECRET) -> dict[str, Any]:
    """What the reference library reads; it raises where a signature is not good."""
    found: dict[str, Any] = Webhook(secret).verify(request.body, request.headers)
    return found


def test_every_final_state_is_told(targets: Targets, end: End, told: Told, installation: Installation) -> None:
    targets.add("webhook", "ci", {"url": "http://127.0.0.1:9/", "secret": "signing"})
    ended = [
        end(verdict, source=f"hf://org/{n}")
        for n, verdict in enumerate(("passed", "failed", "incomplete", None, "cancelled"))
    ]
    rows = told()
    assert [row.audit for row in rows] == ended
    assert [json.loads(row.body)["type"] for row in rows] == [
        "audit.finished",
        "audit.finished",
        "audit.finished",
        "audit.failed",
        "audit.cancelled",
    ]
    assert {row.state for row in rows} == {"waiting"}
    assert installation.jobs.alive([row.job for row in rows]) == {row.job for row in rows}


def test_an_audit_that_saw_no_commit_is_told_with_the_one_that_was_asked_for(
    targets: Targets, end: End, told: Told
) -> None:
    targets.add("webhook", "ci", {"url": "http://127.0.0.1:9/", "secret": "signing"})
    for revision in (COMMIT, "main"):
        end(None, source="hf://org/model", revision=revision)
    assert [json.loads(row.body)["data"]["commit"] for row in told()] == [COMMIT, None]


def test_without_targets_nothing_is_kept(end: End, told: Told) -> None:
    end()
    assert told() == []


def test_a_target_that_is_off_is_not_told(targets: Targets, end: End, told: Told) -> None:
    target = targets.add("webhook", "ci", {"url": "http://127.0.0.1:9/", "secret": "signing"})
    assert targets.off(target, "switched off by somebody")
    end()
    assert told() == []
    assert targets.on(target)
    end()
    assert len(told()) == 1


def test_a_webhook_is_verified_by_the_reference_library(targets: Targets, end: End, deliver: Deliver) -> None:
    with Server(lambda _: Reply(200, b"thanks")) as server:
        targets.add("webhook", "ci", {"url": f"{server.url}/hook?a=b", "secret": "signing"})
        audit = end("failed", depth="full")
        row = deliver()
        (request,) = server.requests
    message = verified(request)
    assert (request.method, request.target.path, request.target.query) == ("POST", "/hook", "a=b")
    assert request.headers["content-type"] == "application/json"
    assert message["type"] == "audit.finished"
    data = message["data"]
    assert data["links"] == {
        "page": f"https://audits.example/audits/{audit}",
        "audit": f"https://audits.example/v1/audits/{audit}",
        "report": f"https://audits.example/v1/audits/{audit}/report",
    }
    expected = {"audit": audit, "source": "hf://org/model", "commit": COMMIT, "verdict": "failed", "errors": 2}
    assert {name: data[name] for name in expected} == expected
    assert (row.state, row.status, row.answer, row.tries) == ("delivered", 200, "thanks", 1)


def test_while_secrets_are_replaced_both_sign(targets: Targets, end: End, deliver: Deliver) -> None:
    with Server(lambda _: Reply(204)) as server:
        targets.add("webhook", "ci", {"url": server.url, "secret": "both"})
        end()
        assert deliver().state == "delivered"
        (request,) = server.requests
    assert verified(request, SECRET) == verified(request, OTHER)


def test_retries_have_the_same_id_a_new_time_and_growing_delays_over_a_day(
    targets: Targets, end: End, deliver: Deliver, deliveries: Deliveries, installation: Installation, told: Told
) -> None:
    with Server(lambda _: Reply(500, b"no")) as server:
        targets.add("webhook", "ci", {"url": server.url, "secret": "signing"})
        end()
        waits = []
        while (row := deliver()).state == "waiting":
            waits.append((row.due_at - row.tried_at) / 1000)
            assert row.job is None
            assert deliveries.add_due() == 0
            with installation.database.write() as connection:
                connection.execute(update(delivery_rows).values(due_at=0))
            assert deliveries.add_due() == 1
        requests = server.requests
    assert waits == sorted(waits)
    assert all(delay <= wait <= delay * 1.11 for delay, wait in zip(DELAYS_S, waits, strict=True))
    assert 20 * 3600 < sum(DELAYS_S) <= 24 * 3600
    assert (row.state, row.status, row.answer, row.tries) == ("failed", 500, "no", len(DELAYS_S) + 1)
    assert len({request.headers["webhook-id"] for request in requests}) == 1
    assert len({request.body for request in requests}) == 1
    for request in requests:
        verified(request)


def test_500_then_200_is_delivered(
    targets: Targets, end: End, deliver: Deliver, deliveries: Deliveries, installation: Installation
) -> None:
    answers = iter((Reply(500), Reply(200, b"now")))
    with Server(lambda _: next(answers)) as server:
        targets.add("webhook", "ci", {"url": server.url, "secret": "signing"})
        end()
        assert deliver().state == "waiting"
        with installation.database.write() as connection:
            connection.execute(update(delivery_rows).values(due_at=0))
        assert deliveries.add_due() == 1
        row = deliver()
    assert (row.state, row.tries, row.answer) == ("delivered", 2, "now")


def test_a_target_that_asks_for_a_pause_gets_it(targets: Targets, end: End, deliver: Deliver) -> None:
    with Server(lambda _: Reply(503, b"", {"Retry-After": "700"})) as server:
        targets.add("webhook", "ci", {"url": server.url, "secret": "signing"})
        end()
        row = deliver()
    assert row.due_at - row.tried_at == 700_000


def test_410_switches_the_target_off_with_the_reason(
    targets: Targets, end: End, deliver: Deliver, told: Told, installation: Installation
) -> None:
    with Server(lambda _: Reply(410, b"gone")) as server:
        target = targets.add("webhook", "ci", {"url": server.url, "secret": "signing"})
        end()
        row = deliver()
    assert (row.state, row.status) == ("failed", 410)
    off = targets.one(target)
    assert off is not None
    assert off.off_reason == "it answered 410 Gone"
    assert off.off_at is not None
    end(source="hf://org/other")
    assert len(told()) == 1


def test_what_waits_for_a_target_that_was_switched_off_is_not_sent(
    targets: Targets, end: End, deliver: Deliver
) -> None:
    with Server(lambda _: Reply(200)) as server:
        target = targets.add("webhook", "ci", {"url": server.url, "secret": "signing"})
        end()
        targets.off(target, "by hand")
        row = deliver()
        assert server.requests == []
    assert (row.state, row.answer, row.tries) == ("failed", "not sent: its target is off", 0)


def test_the_answer_is_kept_short_and_with_control_characters_as_escapes(
    targets: Targets, end: End, deliver: Deliver
) -> None:
    with Server(lambda _: Reply(400, b"\x1b[31m\x00" + b"<b>" * 100_000)) as server:
        targets.add("webhook", "ci", {"url": server.url, "secret": "signing"})
        end()
        row = deliver()
    assert len(row.answer) == 500
    assert row.answer.startswith("\\x1b[31m")
    assert "\x00" not in row.answer


def test_a_delivery_can_be_repeated_as_the_same_message(
    targets: Targets, end: End, deliver: Deliver, deliveries: Deliveries, told: Told
) -> None:
    with Server(lambda _: Reply(200)) as server:
        targets.add("webhook", "ci", {"url": server.url, "secret": "signing"})
        end()
        first = deliver()
        assert deliveries.repeat(first.id)
        again = told()[0]
        assert (again.state, again.attempt, again.job) == ("waiting", 2, f"{first.id}.2")
        assert deliver().state == "delivered"
        one, two = server.requests
    assert one.headers["webhook-id"] == two.headers["webhook-id"]
    assert not deliveries.repeat("nothing")


def test_a_step_that_runs_twice_does_no_harm(targets: Targets, end: End, deliveries: Deliveries, told: Told) -> None:
    with Server(lambda _: Reply(200)) as server:
        targets.add("webhook", "ci", {"url": server.url, "secret": "signing"})
        end()
        (row,) = told()
        came = deliveries.send(row.id, 1)
        assert came is not None
        assert deliveries.settle(row.id, 1, came) == "delivered"
        assert deliveries.settle(row.id, 1, came) is None
        assert deliveries.send(row.id, 1) is None
        assert len(server.requests) == 1
    assert told()[0].tries == 1


def test_a_delivery_whose_job_was_lost_gets_another(
    targets: Targets, end: End, deliveries: Deliveries, told: Told, installation: Installation
) -> None:
    targets.add("webhook", "ci", {"url": "http://127.0.0.1:9/", "secret": "signing"})
    end()
    (row,) = told()
    assert deliveries.add_due() == 0
    installation.jobs.end([row.job])
    assert deliveries.add_due() == 1
    assert told()[0].job == f"{row.id}.2"
    assert deliveries.send(row.id, 1) is None


def test_a_process_that_is_stopped_leaves_the_delivery_to_another(
    targets: Targets, end: End, deliveries: Deliveries, told: Told, stopped: threading.Event
) -> None:
    arrived, release = threading.Event(), threading.Event()

    def slow(_: Request) -> Reply:
        arrived.set()
        release.wait(20)
        return Reply(200)

    with Server(slow) as server:
        targets.add("webhook", "ci", {"url": server.url, "secret": "signing"})
        end()
        (row,) = told()
        came: list[Any] = []
        sending = threading.Thread(target=lambda: came.append(deliveries.send(row.id, 1)))
        sending.start()
        assert arrived.wait(10)
        stopped.set()
        sending.join(5)
        release.set()
        assert not sending.is_alive()
        assert came == [None]
    assert told()[0].state == "waiting"


def test_a_target_that_did_not_answer_for_long_is_left_alone_for_a_while(
    targets: Targets,
    end: End,
    deliveries: Deliveries,
    told: Told,
    installation: Installation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("auditor.service.notify.deliveries._SLOW_S", 0.0)
    target = targets.add("webhook", "ci", {"url": "http://127.0.0.1:9/", "secret": "signing"})
    for n in range(3):
        end(source=f"hf://org/{n}")
    first, second, third = told()
    came = deliveries.send(first.id, 1)
    assert came is not None
    deliveries.settle(first.id, 1, came)
    assert deliveries.send(second.id, 1) == {"quiet": True}
    deliveries.settle(second.id, 1, {"quiet": True})
    assert (told()[1].state, told()[1].tries, told()[1].job) == ("waiting", 0, None)
    end(source="hf://org/later")
    assert told()[3].job is None
    assert deliveries.add_due() == 0
    with installation.database.write() as connection:
        connection.execute(update(target_rows).where(target_rows.c.id == target).values(quiet_until=0))
    assert deliveries.add_due() == 2
    with installation.database.write() as connection:
        connection.execute(update(delivery_rows).values(created_at=0))
    assert deliveries.settle(third.id, 1, {"quiet": True}) == "failed"


def test_a_long_queue_holds_up_neither_what_is_due_nor_what_lost_its_job(
    targets: Targets, end: End, deliveries: Deliveries, told: Told, installation: Installation
) -> None:
    targets.add("webhook", "ci", {"url": "http://127.0.0.1:9/", "secret": "signing"})
    for n in range(3):
        end(source=f"hf://org/{n}")
    rows = told()
    came = deliveries.send(rows[2].id, 1)
    assert came is not None
    deliveries.settle(rows[2].id, 1, came)
    with installation.database.write() as connection:
        connection.execute(
            update(delivery_rows).where(delivery_rows.c.id == rows[2].id).values(due_at=rows[2].due_at + 1)
        )
        copies = [{**rows[0]._mapping, "id": f"{n:026x}", "job": f"{rows[0].id}.1", "due_at": 0} for n in range(450)]
        connection.execute(insert(delivery_rows), copies)
    installation.jobs.end([rows[1].job])
    assert deliveries.add_due() == 1, "what is due"
    assert [deliveries.add_due() for _ in range(3)] == [0, 1, 0], "what lost its job, when its turn comes"
    assert [row.attempt for row in told()[450:]] == [1, 2, 2]


def test_a_secret_that_is_gone_from_the_settings_is_named(
    targets: Targets, end: End, installation: Installation, told: Told
) -> None:
    targets.add("webhook", "ci", {"url": "http://127.0.0.1:9/", "secret": "signing"})
    end()
    (row,) = told()
    notify = installation.settings.notify.model_copy(update={"secrets": {}})
    settings: Settings = installation.settings.model_copy(update={"notify": notify})
    from dataclasses import replace

    came = Deliveries(replace(installation, settings=settings)).send(row.id, 1)
    assert came is not None
    assert came["answer"] == "the settings have no secret named 'signing' (notify.secrets)"


def test_a_secret_that_cannot_sign_is_named_and_not_shown(targets: Targets, end: End, deliver: Deliver) -> None:
    targets.add("webhook", "ci", {"url": "http://127.0.0.1:9/", "secret": "broken"})
    end()
    row = deliver()
    assert row.answer == "the secret 'broken' cannot sign: it has to be whsec_ and base64"


def test_options_of_another_version_switch_the_target_off_and_the_audit_ends(
    targets: Targets, end: End, installation: Installation, told: Told
) -> None:
    target = targets.add("webhook", "ci", {"url": "http://127.0.0.1:9/", "secret": "signing"})
    with installation.database.write() as connection:
        connection.execute(update(target_rows).values(options='{"unknown": 1}'))
    audit = end()
    with installation.database.read() as connection:
        assert connection.execute(select(audits.c.state).where(audits.c.id == audit)).scalar_one() == "finished"
    off = targets.one(target)
    assert off is not None
    assert off.off_reason == "its options are none of this version's: add it anew"
    assert told() == []


def test_hostile_text_is_told_as_ascii(targets: Targets, end: End, deliver: Deliver) -> None:
    with Server(lambda _: Reply(200)) as server:
        targets.add("webhook", "ci", {"url": server.url, "secret": "signing"})
        end(None, reason="a \u202e name \x1b[31m </script> \ud7ff")
        deliver()
        (request,) = server.requests
    assert request.body.isascii()
    assert verified(request)["data"]["reason"] == "a \u202e name \x1b[31m </script> \ud7ff"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # nothing comes to the database
@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("pigeon", {}, "'pigeon' is no kind of target"),
        ("webhook", {"url": "http://127.0.0.1/"}, "secret: Field required"),
        ("webhook", {"url": "http://127.0.0.1/", "secret": "unknown"}, "the settings have none named 'unknown'"),
        ("webhook", {"url": "https://elsewhere.example/", "secret": "token"}, "not on the list of allowed hosts"),
        ("webhook", {"url": "http://elsewhere.example/", "secret": "token"}, "not https"),
        ("webhook", {"url": "file:///etc/passwd", "secret": "token"}, "url: an address begins with https://"),
        (
            "webhook",
            {"url": "https://user:pass@127.0.0.1/", "secret": "token"},
            "url: an address has neither credentials",
        ),
        (
            "webhook",
            {"url": "https://127.0.0.1/\r\nX: y", "secret": "token"},
            "url: an address has neither credentials",
        ),
        ("webhook", {"url": "https://127.0.0.1/", "secret": "token", "more": 1}, "more: Extra inputs"),
        ("github", {"secret": "token"}, "repositories: Field required"),
    ],
)
def test_a_target_that_cannot_be_told_is_refused(
    targets: Targets, kind: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        targets.add(kind, "ci", options)
    assert said in str(refused.value)
    assert "pass" not in str(refused.value)


def test_names_of_targets_are_distinct_and_can_be_shown(targets: Targets) -> None:
    options = {"url": "http://127.0.0.1/", "secret": "signing"}
    targets.add("webhook", "ci", options)
    with pytest.raises(UsageError, match="there is a target named 'ci'"):
        targets.add("webhook", "ci", options)
    for name in ("", "a" * 101, "a\x1b[31m"):
        with pytest.raises(UsageError, match="1 to 100 characters"):
            targets.add("webhook", name, options)


def test_a_target_is_removed_with_its_deliveries(targets: Targets, end: End, told: Told) -> None:
    target = targets.add("webhook", "ci", {"url": "http://127.0.0.1:9/", "secret": "signing"})
    end()
    assert targets.remove(target)
    assert not targets.remove(target)
    assert told() == []
    assert targets.every() == []


def test_no_row_holds_a_secret(targets: Targets, end: End, deliver: Deliver, installation: Installation) -> None:
    with Server(lambda _: Reply(200)) as server:
        targets.add("webhook", "ci", {"url": server.url, "secret": "signing"})
        end()
        deliver()
    with installation.database.read() as connection:
        for table in (target_rows, delivery_rows):
            for row in connection.execute(select(table)):
                assert SECRET not in str(row)
                assert SECRET.removeprefix("whsec_") not in str(row)
