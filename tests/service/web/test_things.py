"""Checkpoints, rules, policies and tokens over the API."""

from pathlib import Path

from auditor.rules import catalogue
from auditor.service.audits.life import Result
from auditor.service.audits.order import Order
from tests.service.web.conftest import Service


def finish(service: Service, source: str, verdict: str) -> str:
    audits = service.installation.audits
    audit = audits.submit(Order(source=source)).audit
    audits.begin(audit, 1, "w")
    report = service.installation.reports.put(b"{}")
    audits.conclude(audit, 1, "w", Result(report=report, verdict=verdict, tool="1"))
    return audit


def test_a_checkpoint_has_its_latest_audit_and_its_history(service: Service, tmp_path: Path) -> None:
    client = service.client("read")
    source = str(tmp_path / "a")
    service.installation.audits.submit(Order(source=str(tmp_path / "b")))
    ids = [finish(service, source, verdict) for verdict in ("failed", "passed")]
    page = client.get("/v1/checkpoints").json()
    assert [each["source"] for each in page["items"]] == [source, str(tmp_path / "b")]
    first = page["items"][0]
    assert first["latest_audit"] == ids[1]
    assert first["verdict"] == "passed"
    assert page["items"][1]["verdict"] is None
    assert client.get(f"/v1/checkpoints/{first['id']}").json() == first
    history = client.get(first["audits"], params={"limit": 1}).json()
    assert [each["id"] for each in history["items"]] == [ids[1]]
    rest = client.get(first["audits"], params={"limit": 1, "next": history["next"]}).json()
    assert [each["id"] for each in rest["items"]] == [ids[0]]
    assert client.get("/v1/checkpoints", params={"source": source}).json()["items"] == [first]
    assert client.get("/v1/checkpoints", params={"source": "hf://a/b"}).json() == {"items": [], "next": None}
    assert client.get(f"/v1/checkpoints/{'0' * 26}").status_code == 404
    assert client.get(f"/v1/checkpoints/{'0' * 26}/audits").status_code == 404


def test_checkpoints_have_pages(service: Service, tmp_path: Path) -> None:
    client = service.client("read")
    for n in range(5):
        service.installation.audits.submit(Order(source=str(tmp_path / str(n))))
    found, params = [], {"limit": 2}
    while True:
        page = client.get("/v1/checkpoints", params=params).json()
        found += [each["source"] for each in page["items"]]
        if page["next"] is None:
            break
        params["next"] = page["next"]
    assert sorted(found) == [str(tmp_path / str(n)) for n in range(5)]


def test_the_catalogue_of_rules_is_that_of_the_command(service: Service) -> None:
    client = service.client("read")
    rules = client.get("/v1/rules").json()
    assert [each["id"] for each in rules] == [module.rule.id for module in catalogue()]
    by_id = client.get(f"/v1/rules/{rules[0]['id']}").json()
    assert by_id == client.get(f"/v1/rules/{rules[0]['slug']}").json()
    assert by_id["page"].startswith("# ")
    assert client.get("/v1/rules/XYZ999").status_code == 404
    assert client.get("/v1/rules/..%2f..%2fetc%2fpasswd").status_code == 404


def test_policies_are_the_administrators(service: Service, tmp_path: Path) -> None:
    admin, submitter = service.client("admin"), service.client("submit")
    text = '[require]\ndepth = "full"\n'
    made = admin.put("/v1/policies/strict", json={"text": text})
    assert made.status_code == 200
    assert made.json()["text"] == text
    assert admin.get("/v1/policies/strict").json() == made.json()
    line = submitter.get("/v1/policies").json()[0]
    assert line == {name: made.json()[name] for name in ("name", "sha256", "changed_at")}
    assert submitter.get("/v1/policies/strict").status_code == 403
    assert submitter.put("/v1/policies/strict", json={"text": text}).status_code == 403
    audit = submitter.post("/v1/audits", json={"source": str(tmp_path / "a"), "policy": "strict"}).json()
    assert audit["policy_sha256"] == made.json()["sha256"]
    assert admin.put("/v1/policies/strict", json={"text": ""}).json()["sha256"] != audit["policy_sha256"]
    assert submitter.get(f"/v1/audits/{audit['id']}").json()["policy_sha256"] == audit["policy_sha256"]
    wrong = admin.put("/v1/policies/strict", json={"text": "[require]\ndepth = 1\n"})
    assert wrong.status_code == 422
    assert "line 2" in wrong.json()["errors"][0]["message"]
    assert admin.delete("/v1/policies/strict").status_code == 204
    assert admin.delete("/v1/policies/strict").status_code == 404
    assert admin.put("/v1/policies/..", json={"text": ""}).status_code in (404, 405, 422)


def test_a_token_is_shown_once_and_ends_when_it_is_revoked(service: Service) -> None:
    admin = service.client("admin")
    made = admin.post("/v1/tokens", json={"name": "ci", "scopes": ["read"], "days": 3})
    assert made.status_code == 201
    token = made.json().pop("token")
    with_it = service.client(Authorization=f"Bearer {token}")
    assert with_it.get("/v1/audits").status_code == 200
    assert with_it.get("/v1/tokens").status_code == 403
    listed = admin.get("/v1/tokens", params={"limit": 1}).json()
    assert token not in str(listed)
    assert listed["items"][0]["id"] == made.json()["id"]
    assert listed["items"][0]["expires_at"]
    assert admin.get("/v1/tokens", params={"limit": 1, "next": listed["next"]}).json()["items"]
    assert admin.delete(f"/v1/tokens/{made.json()['id']}").status_code == 204
    assert with_it.get("/v1/audits").status_code == 401
    assert admin.delete(f"/v1/tokens/{'0' * 26}").status_code == 404
    for body in ({"name": "x", "scopes": []}, {"name": "x", "scopes": ["root"]}, {"name": "x\n", "scopes": ["read"]}):
        assert admin.post("/v1/tokens", json=body).status_code == 422
