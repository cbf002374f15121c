"""The hub: one comment for each pull request, edited in place, and one discussion for a failing branch."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from sqlalchemy import Row

from auditor.service.audits.life import Result
from auditor.service.hooks.asking import Asked, Asking
from auditor.service.installation import Installation
from auditor.service.notify.deliveries import Deliveries
from auditor.service.notify.targets import Targets
from tests.servers.hub import Hub
from tests.servers.serving import Request
from tests.service.notify.conftest import COMMIT, End, Told

PULL = "hub:refs/pr/1"
MAIN = "hub:refs/heads/main"


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[Hub]:
    server = Hub("org/model", checkpoint, token="secret-token")
    yield server
    server.close()


@pytest.fixture
def api(hub: Hub) -> HfApi:
    """The hub's real client."""
    return HfApi(endpoint=hub.url, token="secret-token")


@pytest.fixture
def deliver_all(deliveries: Deliveries, told: Told) -> Callable[[], list[Row[Any]]]:
    def run() -> list[Row[Any]]:
        for row in told():
            if row.state == "waiting":
                came = deliveries.send(row.id, row.attempt)
                assert came is not None
                deliveries.settle(row.id, row.attempt, came)
        return told()

    return run


def add(targets: Targets, hub: Hub, **more: Any) -> str:
    return targets.add("hub", "hub", {"endpoint": hub.url, "secret": "token", "repositories": ["org/*"], **more})


def comments(api: HfApi, number: int) -> list[Any]:
    return [each for each in api.get_discussion_details("org/model", number).events if each.type == "comment"]


def test_a_pull_request_gets_one_comment_that_is_edited_in_place(
    hub: Hub, api: HfApi, targets: Targets, end: End, deliver_all: Callable[[], list[Row[Any]]]
) -> None:
    pull = api.create_pull_request("org/model", "New weights")
    add(targets, hub)
    first = end("failed", origin=f"hub:{pull.git_reference}", revision=COMMIT)
    assert deliver_all()[-1].state == "delivered"
    _, comment = comments(api, pull.num)
    assert "**Checkpoint audit: failed at depth headers: 2 errors, 1 warning**" in comment.content
    assert f"https://audits.example/audits/{first}" in comment.content
    second = end("passed", origin=f"hub:{pull.git_reference}", revision="f" * 40)
    assert deliver_all()[-1].state == "delivered"
    _, edited = comments(api, pull.num)
    assert edited.id == comment.id
    assert edited.edited
    assert "**Checkpoint audit: passed" in edited.content
    assert second in edited.content


def test_a_delivery_that_is_repeated_edits_what_it_wrote(
    hub: Hub, api: HfApi, targets: Targets, end: End, deliver_all: Callable[[], list[Row[Any]]], deliveries: Deliveries
) -> None:
    api.create_pull_request("org/model", "New weights")
    add(targets, hub)
    end("failed", origin=PULL)
    (row,) = deliver_all()
    deliveries.repeat(row.id)
    deliver_all()
    assert len(comments(api, 1)) == 2


def test_a_copy_of_the_comment_is_left_alone(
    hub: Hub, api: HfApi, targets: Targets, end: End, deliver_all: Callable[[], list[Row[Any]]]
) -> None:
    api.create_pull_request("org/model", "New weights")
    add(targets, hub)
    end("failed", origin=PULL)
    deliver_all()
    ours = comments(api, 1)[-1]
    copy = api.comment_discussion("org/model", 1, f"As it said:\n{ours.content}")
    end("passed", origin=PULL, revision="f" * 40)
    deliver_all()
    by_id = {each.id: each for each in comments(api, 1)}
    assert by_id[ours.id].edited
    assert not by_id[copy.id].edited


def test_a_ref_that_gets_an_audited_commit_later_is_told_too_and_nobody_twice(
    hub: Hub,
    api: HfApi,
    targets: Targets,
    installation: Installation,
    told: Told,
    deliver_all: Callable[[], list[Row[Any]]],
) -> None:
    api.create_pull_request("org/model", "New weights")
    add(targets, hub, branches=["main"])
    targets.add("webhook", "receiver", {"url": "http://127.0.0.1:9/", "secret": "signing"})
    asking, audits = Asking(installation), installation.audits

    def ask(origin: str) -> str:
        return asking.submit([Asked(source="hf://org/model", revision=COMMIT, origin=origin)])[0].audit

    audit = ask(MAIN)
    audits.begin(audit, 1, "w")
    audits.conclude(audit, 1, "w", Result(report="a" * 64, verdict="failed", resolved=COMMIT, tool="1"))
    assert sorted(str(row.origin) for row in told()) == ["None", MAIN]
    for _ in range(2):
        assert ask(PULL) == ask("hub:refs/tags/v1") == audit
    assert sorted(str(row.origin) for row in told()) == ["None", MAIN, PULL]
    rows = deliver_all()
    assert {row.state for row in rows if row.origin is not None} == {"delivered"}
    assert "Checkpoint audit: failed" in comments(api, 1)[-1].content


def test_a_failing_branch_gets_one_discussion_where_that_is_chosen(
    hub: Hub, api: HfApi, targets: Targets, end: End, deliver_all: Callable[[], list[Row[Any]]]
) -> None:
    for n in range(5):
        api.create_discussion("org/model", f"Question {n}")
    add(targets, hub, branches=["main"])
    end("passed", origin=MAIN, revision="1" * 40)
    assert deliver_all()[-1].answer.startswith("nothing to say")
    for verdict, n in (("failed", "2"), ("failed", "3"), ("passed", "4")):
        end(verdict, origin=MAIN, revision=n * 40)
        rows = deliver_all()
    assert {row.state for row in rows} == {"delivered"}
    opened = [each for each in api.get_repo_discussions("org/model") if not each.title.startswith("Question")]
    assert [each.title for each in opened] == ["Audit of branch main"]
    (comment,) = comments(api, opened[0].num)
    assert "Checkpoint audit: passed" in comment.content
    assert hub.discussions.every[opened[0].num].edited == {comment.id: 2}


def test_a_discussion_of_the_same_title_by_others_is_not_ours(
    hub: Hub, api: HfApi, targets: Targets, end: End, deliver_all: Callable[[], list[Row[Any]]]
) -> None:
    theirs = api.create_discussion("org/model", "Audit of branch main", description="ours?")
    add(targets, hub, branches=["main"])
    end("failed", origin=MAIN)
    deliver_all()
    assert len(list(api.get_repo_discussions("org/model"))) == 2
    assert [each.content for each in comments(api, theirs.num)] == ["ours?"]


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({}, {"origin": MAIN}),
        ({"pulls": False}, {"origin": PULL}),
        ({"branches": ["release-*"]}, {"origin": MAIN}),
        ({}, {"origin": PULL, "source": "hf://stranger/model"}),
        ({}, {"origin": PULL, "source": "https://elsewhere.example/org/model"}),
        ({"branches": ["*"]}, {"origin": "hub:refs/tags/v1"}),
        ({}, {"origin": "hub:refs/pr/0"}),
        ({}, {"revision": "main"}),
    ],
)
def test_what_is_not_chosen_is_not_commented(
    hub: Hub, targets: Targets, end: End, told: Told, more: dict[str, Any], asked: dict[str, Any]
) -> None:
    add(targets, hub, **more)
    end("failed", **asked)
    assert told() == []


def test_a_pull_request_that_somebody_named_as_the_revision_gets_its_comment(
    hub: Hub, api: HfApi, targets: Targets, end: End, deliver_all: Callable[[], list[Row[Any]]]
) -> None:
    api.create_pull_request("org/model", "New weights")
    add(targets, hub)
    end("failed", revision="refs/pr/1")
    assert deliver_all()[-1].state == "delivered"
    assert len(comments(api, 1)) == 2


def test_what_is_asked_of_the_hub_is_what_its_client_asks(
    hub: Hub, api: HfApi, targets: Targets, end: End, deliver_all: Callable[[], list[Row[Any]]]
) -> None:
    """Method, path, body and token of each call are those of huggingface_hub's own."""

    def written(requests: list[Request]) -> list[tuple[str, str, list[str], str | None]]:
        return [
            (each.method, each.target.path, sorted(json.loads(each.body)), each.headers.get("authorization"))
            for each in requests
            if each.method == "POST"
        ]

    discussion = api.create_discussion("org/model", "Theirs", description="text")
    comment = api.comment_discussion("org/model", discussion.num, "text")
    api.edit_discussion_comment("org/model", discussion.num, comment.id, "text")
    list(api.get_repo_discussions("org/model", discussion_type="discussion", discussion_status="open"))
    theirs, listed = written(hub.requests), hub.requests[-1]
    hub.api.requests.clear()
    add(targets, hub, branches=["main"])
    api.create_pull_request("org/model", "New weights")
    hub.api.requests.clear()
    end("failed", origin=MAIN, revision="1" * 40)
    end("failed", origin="hub:refs/pr/2", revision="2" * 40)
    deliver_all()
    end("passed", origin="hub:refs/pr/2", revision="3" * 40)
    deliver_all()
    ours = written(hub.requests)
    number = comments(api, 2)[-1].id
    assert ours[0] == theirs[0]
    assert ours[1] == (theirs[1][0], theirs[1][1].replace("/1/", "/2/"), *theirs[1][2:])
    assert ours[2] == (theirs[2][0], f"/api/models/org/model/discussions/2/comment/{number}/edit", *theirs[2][2:])
    first = hub.requests[0]
    assert (first.target.path, first.query) == (listed.target.path, {**listed.query, "p": "0"})


def test_hostile_words_are_shown_as_text(
    hub: Hub, api: HfApi, targets: Targets, end: End, deliver_all: Callable[[], list[Row[Any]]]
) -> None:
    api.create_pull_request("org/model", "New weights")
    add(targets, hub)
    end("failed", origin=PULL, policy="`@everyone` <img src=x> [a](javascript:b)", policy_text="")
    deliver_all()
    text = comments(api, 1)[-1].content
    assert "policy `·@everyone· ·img src·x· ·a··javascript:b·`" in text


def test_a_wrong_token_is_told_and_not_shown(
    hub: Hub, targets: Targets, end: End, deliver_all: Callable[[], list[Row[Any]]]
) -> None:
    hub.token = "another"
    add(targets, hub)
    end("failed", origin=PULL)
    (row,) = deliver_all()
    assert row.state == "waiting"
    assert row.answer.startswith("the hub answers HTTP 401")
    assert "secret-token" not in row.answer
