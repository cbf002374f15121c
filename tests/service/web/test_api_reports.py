"""Reports over the API, in every format, and the difference between two."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

import auditor
from auditor.reporting.formats import FORMATS
from auditor.service.audits.life import Result
from auditor.service.audits.order import Order
from auditor.service.web.rendering import KINDS, TABLES
from tests.service.web.conftest import Service


@pytest.fixture(scope="module")
def reports(checkpoint: Path) -> list[bytes]:
    """Two reports of a checkpoint, the second by a policy."""
    return [auditor.audit(checkpoint, depth=depth).model_dump_json(indent=2).encode() for depth in ("headers", "full")]


@pytest.fixture
def finished(service: Service, reports: list[bytes], tmp_path: Path) -> list[str]:
    """Audits with these reports, of a source whose name is hostile."""
    return [finish(service, report, f'{tmp_path}/mo"del;é {n}') for n, report in enumerate(reports)]


def finish(service: Service, report: bytes, source: str) -> str:
    audits = service.installation.audits
    audit = audits.submit(Order(source=source)).audit
    audits.begin(audit, 1, "w")
    kept = service.installation.reports.put(report)
    assert audits.conclude(audit, 1, "w", Result(report=kept, verdict="passed", tool="1")) == "finished"
    return audit


def path(audit: str, name: str) -> str:
    return f"/v1/audits/{audit}/report" + ("" if name == "json" else f".{KINDS[name].suffix}")


def test_every_format_of_the_command_is_served() -> None:
    assert set(KINDS) == set(FORMATS)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_report_has_its_media_type_its_etag_and_a_harmless_name(
    service: Service, finished: list[str], name: str
) -> None:
    client = service.client("read")
    answer = client.get(path(finished[0], name))
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == KINDS[name].media_type.partition(";")[0]
    assert answer.headers["cache-control"] == "private, no-cache"
    disposition = answer.headers["content-disposition"]
    assert disposition.endswith(f'filename="mo-del-0-{finished[0][:12]}.{KINDS[name].suffix}"')
    again = client.get(path(finished[0], name), headers={"If-None-Match": f'"x", W/{answer.headers["etag"]}'})
    assert again.status_code == 304
    assert again.content == b""
    assert client.get(path(finished[1], name)).headers["etag"] != answer.headers["etag"]


def test_the_json_is_the_stored_report_byte_for_byte(
    service: Service, finished: list[str], reports: list[bytes]
) -> None:
    assert service.client("read").get(path(finished[0], "json")).content == reports[0]


def test_the_page_runs_as_nobody(service: Service, finished: list[str]) -> None:
    answer = service.client("read").get(path(finished[0], "html"))
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "allow-same-origin" not in answer.headers["content-security-policy"]
    assert answer.text.startswith("<!doctype html>")


def test_tables_come_together_and_one_by_one(service: Service, finished: list[str]) -> None:
    client = service.client("read")
    archive = zipfile.ZipFile(io.BytesIO(client.get(path(finished[0], "csv")).content))
    assert archive.namelist() == [f"{each}.csv" for each in TABLES]
    one = client.get(f"/v1/audits/{finished[0]}/report/inventory.csv")
    assert one.content == archive.read("inventory.csv")
    assert one.headers["content-type"].startswith("text/csv")
    assert client.get(f"/v1/audits/{finished[0]}/report/other.csv").status_code == 422


def test_an_audit_without_a_report_has_none(service: Service, tmp_path: Path) -> None:
    queued = service.installation.audits.submit(Order(source=str(tmp_path))).audit
    client = service.client("read")
    assert client.get(path(queued, "html")).status_code == 409
    assert client.get(path("0" * 26, "html")).status_code == 404


def test_a_report_that_is_damaged_in_the_store_is_not_served(service: Service, finished: list[str]) -> None:
    client = service.client("read")
    sha256 = client.get(f"/v1/audits/{finished[0]}").json()["report"]
    file = next(service.installation.settings.data.glob(f"reports/*/{sha256}*"))
    file.write_bytes(file.read_bytes()[:-9])
    assert client.get(path(finished[0], "json")).status_code == 404


def test_a_store_that_is_away_is_said_to_be(service: Service, finished: list[str]) -> None:
    folder = service.installation.settings.data / "reports"
    folder.rename(folder.with_name("away"))
    folder.write_text("no folder")
    answer = service.client("read").get(path(finished[0], "json"))
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert service.client("read").get(f"/v1/audits/{finished[0]}").status_code == 200


def test_two_audits_are_compared(service: Service, finished: list[str]) -> None:
    client = service.client("read")
    both = {"old": finished[0], "new": finished[1]}
    diff = json.loads(client.get("/v1/diff", params=both).content)
    assert diff["old"]["depth"] == "headers"
    assert diff["new"]["depth"] == "full"
    page = client.get("/v1/diff.html", params=both)
    assert page.headers["content-type"].startswith("text/html")
    assert client.get("/v1/diff", params=both | {"new": "0" * 26}).status_code == 404
    assert client.get("/v1/diff", params=both | {"new": "x"}).status_code == 422


def test_reports_are_for_readers_alone(service: Service, finished: list[str]) -> None:
    for name in KINDS:
        answer: httpx.Response = service.client().get(path(finished[0], name))
        assert answer.status_code == 401


LIGHT = """
import asyncio, sys, threading
import httpx
from auditor.service.installation import open_installation
from auditor.service.settings import Settings
from auditor.service.web.app import create_app

settings = Settings(data=sys.argv[1], database=sys.argv[2], web={"public_read": True})
app = create_app(open_installation(settings), stopped=threading.Event())

async def ask():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        return [(await client.get(path)).status_code for path in sys.argv[3:]]

print(asyncio.run(ask()), sorted({"numpy", "numba", "pandas", "torch"} & sys.modules.keys()))
"""


def test_no_request_loads_what_audits_need(service: Service, finished: list[str]) -> None:
    paths = [path(finished[0], name) for name in KINDS]
    paths += ["/v1/rules", "/v1/audits", f"/v1/diff.html?old={finished[0]}&new={finished[1]}"]
    settings = service.installation.settings
    told = subprocess.run(
        [sys.executable, "-c", LIGHT, settings.data, settings.database_url, *paths],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == f"{[200] * len(paths)} []"
