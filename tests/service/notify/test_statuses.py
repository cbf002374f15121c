"""Commit statuses: of the commits whose pushes asked, in repositories that are named, on GitHub and GitLab."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Row

from auditor.service.installation import Installation
from auditor.service.notify.deliveries import Deliveries
from auditor.service.notify.targets import Targets
from tests.servers.serving import Reply, Server
from tests.service.notify.conftest import COMMIT, End, Told

Deliver = Callable[[], Row[Any]]
PUSHED = f"github:owner/name@{COMMIT}"


def options(server: Server, **more: Any) -> dict[str, Any]:
    return {"api": server.url, "secret": "token", "repositories": ["owner/*", "group/sub/name"], **more}


@pytest.mark.parametrize(
    ("verdict", "state", "described"),
    [
        ("passed", "success", "passed at depth headers: 2 errors, 1 warning"),
        ("failed", "failure", "failed at depth headers: 2 errors, 1 warning"),
        ("incomplete", "error", "incomplete at depth headers: 2 errors, 1 warning"),
        (None, "error", "no report: not found"),
        ("cancelled", "error", "cancelled"),
    ],
)
def test_github_gets_the_status_of_the_commit(
    targets: Targets, end: End, deliver: Deliver, verdict: str | None, state: str, described: str
) -> None:
    with Server(lambda _: Reply(201, b"{}")) as server:
        targets.add("github", "github", options(server, context="models"))
        audit = end(verdict, origin=PUSHED)
        assert deliver().state == "delivered"
        (request,) = server.requests
    assert (request.method, request.target.path) == ("POST", f"/repos/owner/name/statuses/{COMMIT}")
    assert request.headers["authorization"] == "Bearer secret-token"
    assert json.loads(request.body) == {
        "state": state,
        "description": described,
        "context": "models",
        "target_url": f"https://audits.example/audits/{audit}",
    }


def test_gitlab_gets_the_status_of_the_commit(targets: Targets, end: End, deliver: Deliver) -> None:
    with Server(lambda _: Reply(201, b"{}")) as server:
        targets.add("gitlab", "gitlab", options(server))
        end("failed", origin=f"gitlab:group/sub/name@{COMMIT}")
        assert deliver().state == "delivered"
        (request,) = server.requests
    assert request.target.path == f"/projects/group%2Fsub%2Fname/statuses/{COMMIT}"
    assert request.headers["private-token"] == "secret-token"
    body = json.loads(request.body)
    assert (body["state"], body["name"]) == ("failed", "checkpoint-auditor")


def test_a_status_that_gitlab_has_already_is_delivered(targets: Targets, end: End, deliver: Deliver) -> None:
    refused = b'{"message":"Cannot transition status via :success from :success (Reason(s): ...)"}'
    with Server(lambda _: Reply(400, refused)) as server:
        targets.add("gitlab", "gitlab", options(server))
        end(origin=f"gitlab:owner/name@{COMMIT}")
        assert deliver().state == "delivered"


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "hub:refs/heads/main",
        f"gitlab:owner/name@{COMMIT}",
        f"github:stranger/name@{COMMIT}",
        "github:owner/name@main",
        f"github:owner/name/../../other@{COMMIT}",
        f"github:owner//name@{COMMIT}",
        f"github:owner/name@{COMMIT[:-1]}",
        "github:owner/name",
    ],
)
def test_what_no_named_repository_asked_for_gets_no_status(
    targets: Targets, end: End, told: Told, origin: str | None
) -> None:
    with Server(lambda _: Reply(201)) as server:
        targets.add("github", "github", options(server))
        end(origin=origin)
    assert told() == []


def test_equal_requests_are_one_audit_and_each_commit_gets_its_status(targets: Targets, end: End, told: Told) -> None:
    other = PUSHED.replace(COMMIT, "f" * 40)
    with Server(lambda _: Reply(201)) as server:
        targets.add("github", "github", options(server))
        end(origin=PUSHED, also=(other, PUSHED, "hub:refs/heads/main"))
    assert sorted(row.origin for row in told()) == [PUSHED, other]


def test_a_hostile_name_of_a_repository_stays_in_its_place(targets: Targets, end: End, deliver: Deliver) -> None:
    with Server(lambda _: Reply(201)) as server:
        targets.add("github", "github", options(server))
        end(origin=f"github:owner/a?b#c\u202e d@{COMMIT}")
        deliver()
        (request,) = server.requests
    assert request.target.path == f"/repos/owner/a%3Fb%23c%E2%80%AE%20d/statuses/{COMMIT}"
    assert request.target.query == ""


def test_what_an_earlier_audit_said_does_not_replace_what_a_later_one_did(
    targets: Targets, end: End, told: Told, deliveries: Deliveries, installation: Installation
) -> None:
    with Server(lambda _: Reply(201)) as server:
        targets.add("github", "github", options(server))
        end("failed", origin=PUSHED)
        end("passed", origin=PUSHED, depth="full")
        for row in told():
            came = deliveries.send(row.id, 1)
            assert came is not None
            deliveries.settle(row.id, 1, came)
        assert [json.loads(request.body)["state"] for request in server.requests] == ["success"]
    assert [(row.state, row.answer) for row in told()] == [
        ("failed", "not sent: what ended later has been told there"),
        ("delivered", ""),
    ]


def test_a_commit_that_is_gone_does_not_switch_the_target_off(targets: Targets, end: End, deliver: Deliver) -> None:
    with Server(lambda _: Reply(410)) as server:
        target = targets.add("github", "github", options(server))
        end(origin=PUSHED)
        assert deliver().state == "waiting"
    row = targets.one(target)
    assert row is not None
    assert row.off_at is None
