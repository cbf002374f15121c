"""The OpenAPI document holds: what it says is so, and a client that a generator makes of it works."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import auditor
from auditor.service.audits.life import Result
from auditor.service.audits.workers import Presence
from auditor.service.settings import Settings
from tests.service.web.conftest import Service

# What a schema cannot say: that a cursor is one of ours, that a name is there, that every character shows.
SAYS_MORE = {
    *("submit_audit", "rerun_audit", "list_audits", "list_checkpoints"),
    *("put_policy", "create_token", "add_target", "add_watch"),
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    web = settings.web.model_copy(update={"reads": 0, "writes": 0, "refusals": 0})
    return settings.model_copy(update={"web": web})


@pytest.fixture
def finished(service: Service, checkpoint: Path) -> dict:
    """An audit with a report, and a worker that is there."""
    Presence(service.installation.database, "w").enter()
    audits = service.installation.audits
    made = service.client("submit").post("/v1/audits", json={"source": str(checkpoint)}).json()
    audits.begin(made["id"], 1, "w")
    report = auditor.audit(checkpoint).model_dump_json(indent=2).encode()
    kept = service.installation.reports.put(report)
    audits.conclude(made["id"], 1, "w", Result(report=kept, verdict="passed", tool="1"))
    return service.client("read").get(f"/v1/audits/{made['id']}").json()


def configured(document: dict, finished: dict) -> str:
    """What schemathesis is told: not to wait, and of things that are there."""
    there = dict.fromkeys(("path.audit", "query.old", "query.new"), finished["id"])
    there |= {"path.checkpoint": finished["checkpoint"], "path.rule": "CFG001", "query.wait": 0}
    lines = []
    for operations in document["paths"].values():
        for operation in operations.values():
            name = operation["operationId"]
            told = []
            given = [f"{each['in']}.{each['name']}" for each in operation.get("parameters", ())]
            # It takes an audit that is there for a wrong one of its own where there is a second parameter beside it.
            placed = {each: there[each] for each in given if each in there and name != "get_attempt_log"}
            if placed:
                pairs = ", ".join(f'"{each}" = {json.dumps(value)}' for each, value in placed.items())
                told.append(f"parameters = {{ {pairs} }}")
            refused = ["400"] * ("query.next" in given) + ["422"] * (name in SAYS_MORE)
            if refused:
                statuses = ["2xx", "3xx", "401", "403", "404", "409", "429", *refused]
                told.append(f"checks.positive_data_acceptance.expected-statuses = {json.dumps(statuses)}")
            if told:
                lines += ["[[operations]]", f'include-operation-id = "{name}"', *told]
    return "\n".join(lines)


def fuzz(service: Service, finished: dict, folder: Path, *more: str) -> None:
    """Have schemathesis hold the service against its document."""
    document = service.client().get("/v1/openapi.json").json()
    (folder / "schemathesis.toml").write_text(configured(document, finished))
    token = service.state.tokens.create("fuzz", ["admin"]).token
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "schemathesis", "--config-file", folder / "schemathesis.toml"),
            *("run", f"{service.url}/v1/openapi.json", "--header", f"Authorization: Bearer {token}"),
            *("--checks", "all", "--exclude-operation-id", "stream_audit_events", "--seed", "1"),
            *("--continue-on-failure", "--request-timeout", "60", "--warnings", "off", "--no-color", *more),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_examples_and_edges_are_answered_as_documented(service: Service, finished: dict, tmp_path: Path) -> None:
    fuzz(service, finished, tmp_path, "--phases", "examples,coverage")


@pytest.mark.slow
def test_whatever_is_sent_is_answered_as_documented(service: Service, finished: dict, tmp_path: Path) -> None:
    fuzz(service, finished, tmp_path, "--phases", "examples,coverage,fuzzing", "--max-examples", "50")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_every_operation_has_a_name_a_summary_and_its_problems(service: Service) -> None:
    document = service.client().get("/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1.")
    names = []
    for path, operations in document["paths"].items():
        for operation in operations.values():
            names.append(operation["operationId"])
            assert operation["summary"]
            assert operation["tags"]
            problems = {each for each in operation["responses"] if each >= "400"}
            if path.startswith("/v1/hooks/"):  # which know who asks by what is signed
                assert problems >= {"401", "413", "500", "503"}
            elif path.startswith("/v1/"):
                assert problems >= {"401", "403", "422", "429", "500", "503"}, path
                assert operation["security"]
            for status in problems - {"503" if path == "/readyz" else ""}:
                assert "application/problem+json" in operation["responses"][status]["content"]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_generated_client_submits_reads_and_cancels(
    service: Service, finished: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openapi.json").write_text(service.client().get("/v1/openapi.json").text)
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "project_name_override": "made",
                "package_name_override": "made",
                "post_hooks": [],
                "literal_enums": True,
                # Which the generator does not know, and takes as they come.
                "content_type_overrides": {
                    "application/xml": "text/plain",
                    "application/zip": "application/octet-stream",
                },
            }
        )
    )
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "openapi-python-client", "generate", "--meta", "none"),
            *("--path", "openapi.json", "--config", "config.json", "--output-path", "made", "--fail-on-warning"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    made = importlib.import_module("made")
    models = importlib.import_module("made.models")

    def call(name: str, tag: str = "audits"):
        return importlib.import_module(f"made.api.{tag}.{name}")

    token = service.state.tokens.create("made", ["submit"]).token
    with made.AuthenticatedClient(service.url, token) as client:
        body = models.AuditRequest(source=f"{tmp_path}/model", depth="full", priority=3)
        audit = call("submit_audit").sync(client=client, body=body, idempotency_key="one")
        assert isinstance(audit, models.Audit)
        assert audit.state == "queued"
        page = call("list_audits").sync(client=client, state=["queued"], limit=1)
        assert [each.id for each in page.items] == [audit.id]
        assert call("cancel_audit").sync(audit.id, client=client).state == "cancelled"
        done = call("get_audit").sync(finished["id"], client=client)
        assert (done.verdict, done.created_at.tzinfo is not None) == ("passed", True)
        report = call("get_report_json", "reports").sync_detailed(finished["id"], client=client)
        assert json.loads(report.content)["verdict"] == "passed"
        absent = call("get_audit").sync("0" * 26, client=client)
        assert isinstance(absent, models.ProblemBody)
        assert absent.status == 404
