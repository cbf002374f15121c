"""What tests of the pages share: people, signed in or not, who ask as a browser does."""

import re
from pathlib import Path

import httpx
import pytest

from auditor.service.access.tokens import Scope
from auditor.service.audits.life import Result
from auditor.service.audits.lookup import checkpoint_of
from auditor.service.audits.order import Order
from tests.service.web.conftest import Service

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
OURS = {"Sec-Fetch-Site": "same-origin"}


class People:
    """Clients that accept pages, keep cookies, and say where their posts come from."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def nobody(self) -> httpx.Client:
        """Without a session."""
        return self._service.client(**BROWSER)

    def somebody(self, *scopes: Scope, name: str = "test") -> httpx.Client:
        """Signed in with a token of these scopes."""
        client = self.nobody()
        token = self._service.state.tokens.create(name, scopes).token
        answer = client.post("/login", data={"token": token}, headers=OURS)
        assert answer.status_code == 303
        return client


@pytest.fixture
def people(service: Service) -> People:
    return People(service)


@pytest.fixture
def database_url(migrated_file: Path, tmp_path: Path) -> str:
    """A new SQLite database; tests of what differs between databases ask for both."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "auditor.sqlite3").write_bytes(migrated_file.read_bytes())
    return f"sqlite:///{data / 'auditor.sqlite3'}"


def words(page: httpx.Response) -> str:
    """What a page says, without its style and its tags."""
    text = re.sub(r"<(style|script)>.*?</\1>", " ", page.text, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e{{7*7}}\x1b[31m"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&gt;&lt;img src=x onerror=alert(1)&gt;\\u202e{{7*7}}\\x1b[31m"


def finish(
    service: Service,
    source: str,
    verdict: str = "passed",
    report: bytes = b"{}",
    *,
    revision: str | None = None,
    **values: object,
) -> str:
    """A finished audit of a source, of this verdict."""
    audits = service.installation.audits
    audit = audits.submit(Order(source=source, revision=revision)).audit
    audits.begin(audit, 1, "w")
    kept = service.installation.reports.put(report)
    result = Result(report=kept, verdict=verdict, tool="1", **values)
    assert audits.conclude(audit, 1, "w", result) == "finished"
    return audit


def checkpoint_id(service: Service, source: str) -> str:
    with service.installation.database.read() as connection:
        row = checkpoint_of(connection, source)
    assert row is not None
    return str(row.id)
