"""Targets and deliveries over the API: added, switched, removed, listed and repeated, and no secret in sight."""

import base64
from typing import Any

import pytest
from pydantic import SecretStr

from auditor.service.audits.order import Order
from auditor.service.installation import Installation, open_installation
from auditor.service.notify.deliveries import Deliveries, announcing
from auditor.service.settings import Settings
from auditor.service.settings.tables import Notify
from tests.servers.serving import Reply, Server
from tests.service.web.conftest import Service

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The same, with targets on loopback allowed."""
    notify = Notify(hosts=("127.0.0.1",), private=True, secrets={"ci": SecretStr(SECRET)})
    return settings.model_copy(update={"notify": notify})


@pytest.fixture
def installation(settings: Settings) -> Any:
    """An installation that announces."""
    opened = open_installation(settings, announce=announcing)
    yield opened
    opened.close()


def target(url: str = "http://127.0.0.1:9/", name: str = "ci") -> dict[str, Any]:
    return {"kind": "webhook", "name": name, "options": {"url": url, "secret": "ci"}}


def test_a_target_is_added_switched_and_removed(service: Service) -> None:
    admin = service.client("admin")
    added = admin.post("/v1/targets", json=target())
    assert added.status_code == 201
    place = f"/v1/targets/{added.json()['id']}"
    assert added.json()["options"] == {"url": "http://127.0.0.1:9/", "secret": "ci"}
    off = admin.post(f"{place}/off").json()
    assert off["off_at"] is not None
    assert off["off_reason"] == "switched off by the token test"
    assert admin.post(f"{place}/on").json()["off_at"] is None
    assert [each["id"] for each in admin.get("/v1/targets").json()["items"]] == [added.json()["id"]]
    assert admin.delete(place).status_code == 204
    for method, path in (("GET", place), ("POST", f"{place}/off"), ("POST", f"{place}/on"), ("DELETE", place)):
        assert admin.request(method, path).status_code == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (target() | {"kind": "pigeon"}, "body.kind"),
        (target("https://elsewhere.example/"), "not on the list of allowed hosts"),
        (target() | {"options": {"url": "http://127.0.0.1/", "secret": "unknown"}}, "none named 'unknown'"),
        (target() | {"options": []}, "body.options"),
        (target(name="a\x1b"), "body.name"),
    ],
)
def test_a_target_that_cannot_be_told_is_refused(service: Service, body: dict[str, Any], said: str) -> None:
    answer = service.client("admin").post("/v1/targets", json=body)
    assert answer.status_code == 422
    assert said in answer.text


def test_deliveries_are_listed_shown_and_repeated(service: Service, installation: Installation) -> None:
    admin = service.client("admin")
    with Server(lambda _: Reply(418, b"<b>teapot</b>")) as server:
        made = admin.post("/v1/targets", json=target(server.url)).json()["id"]
        audits = [installation.audits.submit(Order(source=f"hf://org/{n}")).audit for n in range(5)]
        for each in audits:
            installation.audits.cancel(each)
        found, cursor = [], None
        while True:
            page = admin.get("/v1/deliveries", params={"limit": 2, **({"next": cursor} if cursor else {})}).json()
            found += page["items"]
            cursor = page["next"]
            if cursor is None:
                break
        assert [each["audit"] for each in found] == audits[::-1]
        assert {each["state"] for each in found} == {"waiting"}
        one = found[0]["id"]
        told = Deliveries(installation).send(one, 1)
        assert told is not None
        Deliveries(installation).settle(one, 1, told)
    shown = admin.get(f"/v1/deliveries/{one}").json()
    assert (shown["status"], shown["answer"], shown["tries"]) == (418, "<b>teapot</b>", 1)
    assert shown["body"]["data"]["audit"] == audits[-1]
    assert shown["due_at"] is not None
    assert len(admin.get("/v1/deliveries", params={"audit": audits[0]}).json()["items"]) == 1
    assert len(admin.get("/v1/deliveries", params={"target": made, "state": "waiting"}).json()["items"]) == 5
    assert admin.get("/v1/deliveries", params={"state": "delivered"}).json()["items"] == []
    assert admin.post(f"/v1/deliveries/{one}/repeat").status_code == 202
    assert admin.post("/v1/deliveries/" + "0" * 26 + "/repeat").status_code == 404
    assert admin.get("/v1/deliveries/" + "0" * 26).status_code == 404


def test_no_answer_holds_a_secret(service: Service, installation: Installation) -> None:
    admin = service.client("admin")
    admin.post("/v1/targets", json=target())
    installation.audits.cancel(installation.audits.submit(Order(source="hf://org/model")).audit)
    for path in ("/v1/targets", "/v1/deliveries"):
        text = admin.get(path).text
        assert SECRET not in text
        assert "whsec_" not in text


@pytest.mark.parametrize("scope", ["read", "submit"])
@pytest.mark.parametrize("path", ["/v1/targets", "/v1/deliveries"])
def test_targets_and_deliveries_are_for_admins_alone(service: Service, scope: Any, path: str) -> None:
    client = service.client(scope)
    assert client.get(path).status_code == 403
    assert client.get(f"{path}/{'0' * 26}").status_code == 403
    assert client.post("/v1/targets", json=target()).status_code == 403
    assert client.post(f"/v1/deliveries/{'0' * 26}/repeat").status_code == 403
    assert service.client().get(path).status_code == 401
