"""Watches over the API: added, listed, looked at, removed; by whom, and what is refused."""

from typing import Any

import pytest

from tests.service.web.conftest import Service


def test_a_watch_is_added_shown_looked_at_and_removed(service: Service) -> None:
    admin = service.client("admin")
    added = admin.post("/v1/watches", json={"source": "hf://org/model", "revision": "main", "every_s": 600})
    assert added.status_code == 201
    watch = added.json()
    assert {name: watch[name] for name in ("source", "revision", "every_s", "depth", "failures", "commit")} == {
        "source": "hf://org/model",
        "revision": "main",
        "every_s": 600,
        "depth": "headers",
        "failures": 0,
        "commit": None,
    }
    place = f"/v1/watches/{watch['id']}"
    assert service.client("read").get(place).json() == watch
    assert admin.post(f"{place}/look").json()["due_at"] >= watch["due_at"]
    assert admin.delete(place).status_code == 204
    for method, path in (("GET", place), ("POST", f"{place}/look"), ("DELETE", place)):
        assert admin.request(method, path).status_code == 404


def test_watches_are_listed_in_pages(service: Service) -> None:
    admin = service.client("admin")
    ids = [admin.post("/v1/watches", json={"source": f"hf://org/model{n}"}).json()["id"] for n in range(5)]
    found, cursor = [], None
    while True:
        page = admin.get("/v1/watches", params={"limit": 2, **({"next": cursor} if cursor else {})}).json()
        found += [each["id"] for each in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == ids
    assert admin.get("/v1/watches", params={"next": "tampered"}).status_code == 400


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"source": "/models/a"}, "a folder cannot be watched"),
        ({"source": "hf://org/model@main"}, "revision"),
        ({"source": "https://elsewhere.example/"}, "not on the list of allowed hosts"),
        ({"source": "hf://org/model", "every_s": 1}, "body.every_s"),
        ({"source": "hf://org/model", "policy": "strict"}, "no policy named"),
        ({"source": "hf://org/model", "more": 1}, "body.more"),
        ({"source": "hf://org/\u202e"}, "characters that do not show"),
    ],
)
def test_what_cannot_be_watched_is_refused(service: Service, body: dict[str, Any], said: str) -> None:
    answer = service.client("admin").post("/v1/watches", json=body)
    assert answer.status_code == 422
    assert said in answer.text


@pytest.mark.parametrize("scope", ["read", "submit"])
def test_watches_are_changed_by_admins_alone(service: Service, scope: Any) -> None:
    client = service.client(scope)
    assert client.post("/v1/watches", json={"source": "hf://org/model"}).status_code == 403
    assert client.delete("/v1/watches/" + "0" * 26).status_code == 403
    assert client.get("/v1/watches").status_code == 200
    assert service.client().get("/v1/watches").status_code == 401
