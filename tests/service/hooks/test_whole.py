"""From an upload to the comment below it: the hub's webhook, the audit, and what the hub and a receiver are told."""

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi
from standardwebhooks import Webhook

from auditor.service.hooks.watches import Watches
from auditor.service.installation import Installation
from auditor.service.notify.targets import Targets
from auditor.service.settings import Settings
from auditor.service.settings.tables import Notify
from tests.servers.hub import Hub
from tests.servers.serving import Reply, Server
from tests.service.running import Running

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The same, with targets on loopback allowed."""
    notify = Notify(hosts=("127.0.0.1",), private=True, secrets={"signing": SECRET, "token": "t"})
    return settings.model_copy(update={"notify": notify})


@pytest.fixture
def service(hub: Hub, installation: Installation, database_url: str, tmp_path: Path) -> Iterator[Running]:
    """`auditor serve`, with the hub's webhook on."""
    process = Running(
        tmp_path / "data",
        *("--port", "0", "--database", database_url),
        AUDITOR_SERVICE_SOURCES__HOSTS='["127.0.0.1", "127.0.0.2"]',
        AUDITOR_SERVICE_SOURCES__PRIVATE="true",
        AUDITOR_SERVICE_HOOKS__HUB__SECRET="verbatim",
        AUDITOR_SERVICE_HOOKS__HUB__PULLS="true",
        AUDITOR_SERVICE_NOTIFY__HOSTS='["127.0.0.1"]',
        AUDITOR_SERVICE_NOTIFY__PRIVATE="true",
        AUDITOR_SERVICE_NOTIFY__SECRETS__SIGNING=SECRET,
        AUDITOR_SERVICE_NOTIFY__SECRETS__TOKEN="t",
        HF_ENDPOINT=hub.url,
    )
    yield process
    assert process.stop() == 0


def until(true: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_pull_request_is_audited_and_told_where_it_is(
    hub: Hub, service: Running, installation: Installation, checkpoint: Path
) -> None:
    api = HfApi(endpoint=hub.url, token="t")
    pull = api.create_pull_request("org/model", "New weights")
    commit = hub.branch(f"refs/pr/{pull.num}", checkpoint)
    targets = Targets(installation.database, installation.settings)
    with Server(lambda _: Reply(200)) as receiver:
        targets.add("webhook", "receiver", {"url": receiver.url, "secret": "signing"})
        targets.add("hub", "hub", {"endpoint": hub.url, "secret": "token", "repositories": ["org/*"]})
        payload = {
            "event": {"action": "update", "scope": "repo.content"},
            "repo": {"type": "model", "name": "org/model"},
            "updatedRefs": [{"ref": f"refs/pr/{pull.num}", "oldSha": None, "newSha": commit}],
            "webhook": {"id": "1", "version": 3},
        }
        answer = httpx.post(f"{service.url}/v1/hooks/hub", json=payload, headers={"X-Webhook-Secret": "verbatim"})
        assert answer.status_code == 202
        discussion = hub.discussions.every[pull.num]
        until(lambda: receiver.requests and len(discussion.comments) == 2)
        (request,) = receiver.requests
    told = Webhook(SECRET).verify(request.body, request.headers)["data"]
    assert told["audit"] == answer.json()["audits"][0]["id"]
    assert (told["state"], told["verdict"], told["commit"]) == ("finished", "passed", commit)
    assert f"at commit `{commit}`" in list(discussion.comments.values())[-1]
    assert "**Checkpoint audit: passed at depth headers" in list(discussion.comments.values())[-1]


def test_a_watched_branch_is_audited_when_it_moves(
    hub: Hub, service: Running, installation: Installation, checkpoint: Path
) -> None:
    targets = Targets(installation.database, installation.settings)
    watches = Watches(installation)
    with Server(lambda _: Reply(200)) as receiver:
        targets.add("webhook", "receiver", {"url": receiver.url, "secret": "signing"})
        watch = watches.add("hf://org/model")
        until(lambda: len(receiver.requests) == 1)
        moved = hub.push(checkpoint)
        assert watches.look_now(watch)
        until(lambda: len(receiver.requests) == 2)
        told = [Webhook(SECRET).verify(each.body, each.headers)["data"] for each in receiver.requests]
    assert told[1]["commit"] == moved
    assert {each["verdict"] for each in told} == {"passed"}
