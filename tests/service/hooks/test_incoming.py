"""Webhooks in: authentic or refused, what is named by the settings audited once, and all else passed over."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Row, select
from standardwebhooks import Webhook

from auditor.service.audits import policies
from auditor.service.audits.life import Result
from auditor.service.installation import Installation
from auditor.service.settings import Settings
from auditor.service.settings.tables import GenericHook, GithubHook, Hooks, HubHook, Push
from auditor.service.store.tables import audits, checkpoints, origins
from tests.service.web.conftest import Service
from tests.service.web.conftest import service as service  # a fixture

COMMIT, OTHER = "575db8b7a51b6f85eb06eee540738584589f131c", "ce9a4674fa833a68d5a73ec355f0ea95eedd60b7"
SECRET = "a secret, verbatim"
SIGNING = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()

Post = Callable[..., httpx.Response]
# What is refused or passed over never comes to the database: one kind is enough.
one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The same, with every hook on, and org the one organisation that is allowed."""
    hooks = Hooks(
        hub=HubHook(
            secret=SecretStr(SECRET),
            branches=("main", "release-*"),
            tags=("v*",),
            pulls=True,
            depth="full",
            policy=None,
        ),
        generic=GenericHook(secret=SecretStr(SIGNING)),
        github=GithubHook(
            secret=SecretStr(SECRET),
            tags=("v*",),
            repositories={
                "Owner/Name": Push(source="hf://org/model", revision="{commit}"),
                "owner/web": Push(source="https://127.0.0.1/{branch}/{commit}"),
            },
        ),
    )
    sources = settings.sources.model_copy(update={"organisations": ("org",)})
    return settings.model_copy(update={"hooks": hooks, "sources": sources})


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as opened:
        yield opened


def payload(*refs: tuple[str, str | None], **more: Any) -> dict[str, Any]:
    """The hub's documented payload of new commits."""
    return {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": {
            "type": "model",
            "name": "org/model",
            "id": "621ffdc036468d709f17434d",
            "private": False,
            "url": {"web": "https://huggingface.co/org/model", "api": "https://huggingface.co/api/models/org/model"},
            "headSha": COMMIT,
            "owner": {"id": "628b753283ef59b5be89e937"},
        },
        "updatedRefs": [
            {"ref": ref, "oldSha": None, "newSha": sha} for ref, sha in refs or (("refs/heads/main", COMMIT),)
        ],
        "webhook": {"id": "6390e855e30d9209411de93b", "version": 3},
        **more,
    }


@pytest.fixture
def hub(client: httpx.Client) -> Post:
    def post(body: Any = None, secret: str | bytes | None = SECRET, **headers: str) -> httpx.Response:
        named: dict[str, str | bytes] = {"Content-Type": "application/json", **headers}
        if secret is not None:
            named["X-Webhook-Secret"] = secret
        content = body if isinstance(body, bytes) else json.dumps(payload() if body is None else body).encode()
        return client.post("/v1/hooks/hub", content=content, headers=named)

    return post


@pytest.fixture
def generic(client: httpx.Client) -> Post:
    def post(body: Any, id: str = "msg_1", ago_s: int = 0, secret: str = SIGNING, **headers: str) -> httpx.Response:  # noqa: A002  # what it is
        text = body if isinstance(body, str) else json.dumps(body)
        at = datetime.now(UTC) - timedelta(seconds=ago_s)
        signature = Webhook(secret).sign(id, at, text)
        sent = {"webhook-id": id, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}
        return client.post(
            "/v1/hooks/generic", content=text, headers={"Content-Type": "application/json", **sent, **headers}
        )

    return post


@pytest.fixture
def github(client: httpx.Client) -> Post:
    def post(
        body: Any, delivery: str = "72d3162e-cc78-11e3-81ab-4c9367dc0958", event: str = "push", **headers: str
    ) -> httpx.Response:
        content = json.dumps(body).encode()
        made = hmac.new(SECRET.encode(), content, hashlib.sha256).hexdigest()
        sent = {"X-Hub-Signature-256": f"sha256={made}", "X-GitHub-Delivery": delivery, "X-GitHub-Event": event}
        return client.post(
            "/v1/hooks/github", content=content, headers={"Content-Type": "application/json", **sent, **headers}
        )

    return post


def push(ref: str = "refs/heads/main", after: str = COMMIT, name: str = "owner/name", **more: Any) -> dict[str, Any]:
    return {"ref": ref, "before": OTHER, "after": after, "repository": {"full_name": name, "id": 1}, **more}


def every_audit(installation: Installation) -> list[Row[Any]]:
    with installation.database.read() as connection:
        return list(connection.execute(select(audits).order_by(audits.c.id)))


# --- the hub's ---


def test_a_new_commit_on_the_hub_is_audited(hub: Post, installation: Installation) -> None:
    answer = hub()
    assert answer.status_code == 202
    (audit,) = every_audit(installation)
    assert answer.json() == {"audits": [{"id": audit.id, "created": True}], "ignored": None}
    assert (audit.source, audit.revision, audit.depth, audit.origin, audit.token) == (
        "hf://org/model",
        COMMIT,
        "full",
        "hub:refs/heads/main",
        None,
    )


def test_the_hubs_answer_comes_within_a_second_and_touches_no_network(
    hub: Post, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    took = []
    for n in range(5):
        begun = time.monotonic()
        assert hub(payload(("refs/heads/main", f"{n:040x}"))).status_code == 202
        took.append(time.monotonic() - begun)
    assert sorted(took)[2] < 1, "of a machine that is busy with other tests, the median"


@one_database
@pytest.mark.parametrize(
    ("refs", "audited"),
    [
        ([("refs/heads/main", COMMIT), ("refs/tags/v1", OTHER)], [COMMIT, OTHER]),
        ([("refs/heads/release-1", COMMIT)], [COMMIT]),
        ([("refs/pr/7", COMMIT)], [COMMIT]),
        ([("refs/heads/main", COMMIT), ("refs/tags/v1", COMMIT)], [COMMIT]),
        ([("refs/heads/main", None)], []),
        ([("refs/heads/other", COMMIT), ("refs/tags/test", COMMIT)], []),
        ([("refs/convert/parquet", COMMIT), ("main", COMMIT), ("refs/pr/0", COMMIT), ("refs/pr/7/x", COMMIT)], []),
        ([("refs/heads/release-\u202e", COMMIT)], []),
    ],
)
def test_the_refs_that_the_settings_name_are_audited(
    hub: Post, installation: Installation, refs: list[tuple[str, str | None]], audited: list[str]
) -> None:
    answer = hub(payload(*refs))
    assert answer.status_code == (202 if audited else 200)
    assert [each.revision for each in every_audit(installation)] == audited
    assert (answer.json()["ignored"] is None) == bool(audited)


def test_a_branch_that_was_reset_is_shown_by_the_commit_that_it_has(hub: Post, installation: Installation) -> None:
    def push(old: object, new: str, ref: str = "refs/heads/main") -> str:
        refs = [{"ref": ref, "oldSha": old, "newSha": new}]
        answer = hub(payload(updatedRefs=refs))
        assert answer.status_code == 202
        return str(answer.json()["audits"][0]["id"])

    def latest() -> str:
        with installation.database.read() as connection:
            return str(connection.execute(select(checkpoints.c.latest_audit)).scalar_one())

    first, second = push("2" * 40, COMMIT), push(COMMIT, OTHER)
    for audit in (first, second):
        installation.audits.begin(audit, 1, "w")
        installation.audits.conclude(audit, 1, "w", Result(report="a" * 64, verdict="passed", tool="1"))
    for old in (None, "2" * 40, 7, ["x"], OTHER.upper() + "x"):
        assert push(old, COMMIT) == first
        assert latest() == second, "what is told again is no reset"
    assert push(OTHER, COMMIT) == first
    assert latest() == first


def test_each_ref_of_one_commit_is_kept_to_be_told(hub: Post, installation: Installation) -> None:
    hub(payload(("refs/heads/main", COMMIT), ("refs/tags/v1", COMMIT)))
    hub(payload(("refs/pr/3", COMMIT)))
    with installation.database.read() as connection:
        found = connection.execute(select(origins.c.origin).order_by(origins.c.origin)).scalars().all()
    assert found == ["hub:refs/heads/main", "hub:refs/pr/3", "hub:refs/tags/v1"]


@one_database
@pytest.mark.parametrize(
    "more",
    [
        {"event": {"action": "create", "scope": "discussion"}},
        {"event": {"action": "create", "scope": "discussion.comment"}, "comment": {"id": "1", "content": "ours"}},
        {"event": {"action": "update", "scope": "repo.config"}},
        {"event": {"action": "update", "scope": "repo.contents"}},
        {"event": {"action": "create", "scope": "repo"}},
        {"repo": {"type": "dataset", "name": "org/model"}},
        {"repo": {"type": "space", "name": "org/model"}},
        {"updatedRefs": []},
        {"updatedRefs": None},
    ],
)
def test_other_events_are_answered_200_and_passed_over(
    hub: Post, installation: Installation, more: dict[str, Any]
) -> None:
    answer = hub({**payload(), **more})
    assert (answer.status_code, answer.json()["audits"]) == (200, [])
    assert answer.json()["ignored"]
    assert every_audit(installation) == []


def test_narrower_scopes_unknown_fields_and_versions_are_tolerated(hub: Post, installation: Installation) -> None:
    body = payload(webhook={"id": "x", "version": 99}, new={"field": [1, {"a": None}]})
    body["event"] = {"action": "unheard", "scope": "repo.content.commits", "more": 1}
    assert hub(body).status_code == 202
    assert len(every_audit(installation)) == 1


@one_database
@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET + "s", SECRET.upper(), "ü"])
def test_without_the_secret_nothing_is_taken(hub: Post, installation: Installation, secret: str | None) -> None:
    answer = hub(secret=None if secret is None else secret.encode())
    assert answer.status_code == 401
    assert every_audit(installation) == []


@one_database
def test_a_secret_in_the_address_counts_for_nothing(client: httpx.Client, installation: Installation) -> None:
    answer = client.post("/v1/hooks/hub", params={"secret": SECRET}, json=payload())
    assert answer.status_code == 401
    assert every_audit(installation) == []


@one_database
@pytest.mark.parametrize("path", ["hub", "generic", "github"])
def test_a_hook_that_is_off_takes_nothing(
    client: httpx.Client,
    installation: Installation,
    service: Service,
    path: str,
) -> None:
    state = service.app.state.auditor
    off = installation.settings.model_copy(update={"hooks": Hooks()})
    service.app.state.auditor = replace(state, installation=replace(installation, settings=off))
    headers = {"X-Webhook-Secret": "", "X-Hub-Signature-256": "sha256=", "webhook-id": "a"}
    assert client.post(f"/v1/hooks/{path}", json=payload(), headers=headers).status_code == 401


def test_an_organisation_that_is_not_allowed_is_refused(hub: Post, installation: Installation) -> None:
    body = payload()
    body["repo"]["name"] = "stranger/model"
    answer = hub(body)
    assert answer.status_code == 422
    assert "not on the list of allowed organisations" in answer.text
    assert every_audit(installation) == []


@one_database
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"\xff\xfe", 422),
        (b"[" * 100_000, 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"event":{"scope":1},"repo":{"type":"model","name":"a/b"}}', 422),
        (json.dumps(payload(("refs/heads/main", "main"))).encode(), 422),
        (json.dumps(payload(("refs/heads/main", "../../etc"))).encode(), 422),
        (
            b'{"event":{"scope":"repo.content"},"repo":{"type":"model","name":"../x"},"updatedRefs":[{"ref":"refs/heads/main","newSha":"%s"}]}'
            % COMMIT.encode(),
            422,
        ),
    ],
)
def test_what_is_no_payload_is_refused_and_not_echoed(
    hub: Post, installation: Installation, body: bytes, status: int
) -> None:
    answer = hub(body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "etc" not in answer.text
    assert every_audit(installation) == []


@one_database
@pytest.mark.parametrize("path", ["hub", "generic", "github"])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_beyond_256_kib_is_refused(client: httpx.Client, path: str, announced: bool) -> None:
    body = b" " * ((256 << 10) + 1)
    content = body if announced else iter([body[: 200 << 10], body[200 << 10 :]])
    headers = {"X-Webhook-Secret": SECRET, "Content-Type": "application/json"}
    answer = client.post(f"/v1/hooks/{path}", content=content, headers=headers)
    assert answer.status_code == 413


@one_database
def test_another_content_type_is_refused(hub: Post) -> None:
    assert hub(**{"Content-Type": "application/x-www-form-urlencoded"}).status_code == 415


def test_of_a_thousand_equal_hooks_one_audit_is_made(hub: Post, installation: Installation) -> None:
    turn = threading.Barrier(16)

    def some(_: int) -> list[int]:
        turn.wait(30)
        return [hub().status_code for _ in range(63)]

    with ThreadPoolExecutor(16) as pool:
        answers = [each for part in pool.map(some, range(16)) for each in part]
    assert len(answers) >= 1000
    assert set(answers) == {202}
    assert len(every_audit(installation)) == 1


def test_a_replay_after_the_end_is_the_same_audit(hub: Post, installation: Installation) -> None:
    (first,) = hub().json()["audits"]
    installation.audits.cancel(first["id"])
    assert hub().json()["audits"] == [{"id": first["id"], "created": False}]


def test_a_policy_of_the_settings_is_kept_with_the_audit(
    hub: Post,
    installation: Installation,
    service: Service,
) -> None:
    named = installation.settings.hooks.hub.model_copy(update={"policy": "strict"})
    hooks = installation.settings.hooks.model_copy(update={"hub": named})
    changed = replace(installation, settings=installation.settings.model_copy(update={"hooks": hooks}))
    service.app.state.auditor = replace(service.app.state.auditor, installation=changed)
    assert "no policy named 'strict'" in hub().text
    policies.put(installation.database, "strict", "")
    assert hub().status_code == 202
    (audit,) = every_audit(installation)
    assert (audit.policy, audit.policy_text) == ("strict", "")


def test_a_full_queue_is_told_with_a_time_to_come_again(
    hub: Post, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation.audits, "_waiting", 0)
    answer = hub()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")


# --- anybody's ---


def test_a_signed_webhook_is_audited_as_it_says(generic: Post, installation: Installation) -> None:
    status = {"at": "gitlab", "repository": "group/sub/name", "commit": COMMIT}
    answer = generic({"source": "hf://org/model", "revision": "main", "depth": "sample", "status": status})
    assert answer.status_code == 202
    (audit,) = every_audit(installation)
    assert (audit.source, audit.revision, audit.depth) == ("hf://org/model", "main", "sample")
    assert audit.origin == f"gitlab:group/sub/name@{COMMIT}"


def test_the_same_id_is_the_same_audit_also_after_its_end(generic: Post, installation: Installation) -> None:
    (first,) = generic({"source": "hf://org/model"}).json()["audits"]
    installation.audits.cancel(first["id"])
    (again,) = generic({"source": "hf://org/model"}).json()["audits"]
    assert again == {"id": first["id"], "created": False}
    (new,) = generic({"source": "hf://org/model"}, id="msg_2").json()["audits"]
    assert new["id"] != first["id"]


@one_database
@pytest.mark.parametrize("ago_s", [330, 3600, -330])
def test_a_late_webhook_is_refused(generic: Post, installation: Installation, ago_s: int) -> None:
    assert generic({"source": "hf://org/model"}, ago_s=ago_s).status_code == 401
    assert every_audit(installation) == []


@one_database
@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,%%%"},
        {"webhook-signature": "v1,ü".encode()},
        {"webhook-signature": ""},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "inf"},
        {"webhook-timestamp": "1e400"},
        {"webhook-id": "msg_other"},
        {"webhook-id": ""},
        {"webhook-id": "a" * 201},
    ],
)
def test_a_webhook_that_is_not_signed_so_is_refused(
    generic: Post, installation: Installation, headers: dict[str, str]
) -> None:
    assert generic({"source": "hf://org/model"}, **headers).status_code == 401
    assert every_audit(installation) == []


@one_database
def test_another_secret_signs_nothing(generic: Post) -> None:
    other = "whsec_" + base64.b64encode(b"fedcba9876543210fedcba98").decode()
    assert generic({"source": "hf://org/model"}, secret=other).status_code == 401


@one_database
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "source: field required"),
        ({"source": 1}, "source: input should be a valid string"),
        ({"source": "hf://org/model", "more": 1}, "more: extra inputs"),
        ({"source": "hf://org/model", "depth": "deep"}, "depth: "),
        ({"source": "hf://org/model", "policy_text": "a"}, "policy_text: extra inputs"),
        ({"source": "hf://stranger/model"}, "not on the list of allowed organisations"),
        ({"source": "file:///etc/passwd"}, "none of the sources that are read"),
        ({"source": "https://user:word@127.0.0.1/"}, "credentials"),
        ({"source": "hf://org/model", "policy": "strict"}, "no policy named"),
        (
            {"source": "hf://org/model", "status": {"at": "github", "repository": "a/b", "commit": "main"}},
            "status.commit",
        ),
        ("{", "not JSON"),
        ("[" * 10_000, "not JSON"),
    ],
)
def test_what_cannot_be_audited_is_refused_by_name(
    generic: Post, installation: Installation, body: Any, said: str
) -> None:
    answer = generic(body)
    assert answer.status_code == 422
    assert said in answer.text
    assert "word" not in answer.text.replace("passwd", "")
    assert every_audit(installation) == []


# --- GitHub's ---


def test_a_push_means_what_the_settings_say(github: Post, installation: Installation) -> None:
    assert github(push()).status_code == 202
    assert github(push(name="owner/web", ref="refs/tags/v1"), delivery="other").status_code == 202
    audit, web = every_audit(installation)
    assert (audit.source, audit.revision) == ("hf://org/model", COMMIT)
    assert (web.source, web.revision) == (f"https://127.0.0.1/v1/{COMMIT}", None)
    assert audit.origin == f"github:Owner/Name@{COMMIT}"


def test_a_push_that_is_sent_again_is_the_same_audit_whatever_is_not_signed(
    github: Post, installation: Installation
) -> None:
    (first,) = github(push()).json()["audits"]
    installation.audits.cancel(first["id"])
    for delivery in ("72d3162e-cc78-11e3-81ab-4c9367dc0958", "another", ""):
        assert github(push(), delivery=delivery).json()["audits"] == [{"id": first["id"], "created": False}]
    (new,) = github({**push(), "before": "f" * 40}).json()["audits"]
    assert new["id"] != first["id"]


@one_database
@pytest.mark.parametrize(
    ("body", "event"),
    [
        ({"zen": "Design for failure."}, "ping"),
        (push(), "issue_comment"),
        (push(deleted=True, after="0" * 40), "push"),
        (push(after="0" * 40), "push"),
        (push(ref="refs/heads/other"), "push"),
        (push(ref="refs/tags/x"), "push"),
        (push(ref="refs/tags/v/../../x"), "push"),
        (push(ref="refs/tags/v x"), "push"),
        (push(name="stranger/name"), "push"),
    ],
)
def test_other_pushes_and_events_are_answered_200(
    github: Post, installation: Installation, body: dict[str, Any], event: str
) -> None:
    answer = github(body, event=event)
    assert (answer.status_code, answer.json()["audits"]) == (200, [])
    assert every_audit(installation) == []


@one_database
@pytest.mark.parametrize("signature", ["", "sha256=", "sha256=" + "0" * 64, "sha1=" + "0" * 40, "ü".encode()])
def test_a_push_that_is_not_signed_so_is_refused(github: Post, installation: Installation, signature: str) -> None:
    assert github(push(), **{"X-Hub-Signature-256": signature}).status_code == 401
    assert every_audit(installation) == []


@one_database
def test_a_push_that_names_no_commit_is_refused(github: Post) -> None:
    assert github(push(after="main")).status_code == 422
