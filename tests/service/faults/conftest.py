"""What the fault tests share: a service that runs, a checkpoint that takes a while, and what must hold at the end."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from auditor.forge import forge
from auditor.service.audits.order import Order
from auditor.service.installation import Installation, open_installation
from auditor.service.settings import Settings
from auditor.service.store.tables import attempts, audits
from tests.service.running import Running, attempts_running

FINAL = {"finished", "failed", "cancelled"}


class Service:
    """An installation whose processes are started, stopped and killed, and what it has accepted."""

    def __init__(self, data: Path, database_url: str, checkpoint: Path, reports: str | None = None) -> None:
        self.data = data
        self.url = database_url
        self.sqlite = database_url.startswith("sqlite")
        self.checkpoint = checkpoint
        self.processes: list[Running] = []
        self.accepted: list[str] = []
        roots = [checkpoint.parent]
        self.installation: Installation = open_installation(
            Settings(data=data, database=database_url, reports=reports, sources={"roots": roots})
        )

    def start(self, **environment: str) -> Running:
        """Start a process: the whole service on SQLite, a worker on PostgreSQL."""
        arguments = ("--port", "0") if self.sqlite else ("--role", "worker", "--database", self.url)
        roots = json.dumps([str(self.checkpoint.parent)])
        process = Running(self.data, *arguments, AUDITOR_SERVICE_SOURCES__ROOTS=roots, **environment)
        self.processes.append(process)
        return process

    def submit(self, depth: str, number: int = 0) -> str:
        """Accept an audit that equals none other."""
        order = Order(source=str(self.checkpoint), depth=depth, policy_text=f"# {number}", force=True)
        self.accepted.append(self.installation.audits.submit(order).audit)
        return self.accepted[-1]

    def states(self) -> dict[str, str]:
        """The state of every accepted audit."""
        with self.installation.database.read() as connection:
            return {row.id: row.state for row in connection.execute(select(audits.c.id, audits.c.state))}

    def wait(self, until: Callable[[dict[str, str]], bool], seconds: float) -> float:
        """Wait for states; how long it took."""
        begun = time.monotonic()
        while not until(states := self.states()):
            assert time.monotonic() - begun < seconds, (states, [each.lines[-20:] for each in self.processes])
            time.sleep(0.1)
        return time.monotonic() - begun

    def all_final(self, seconds: float) -> float:
        """Wait until every audit has ended."""
        return self.wait(lambda states: set(states.values()) <= FINAL, seconds)

    def check(self) -> None:
        """What must hold after any fault, once the processes are stopped."""
        states = self.states()
        assert set(states) == set(self.accepted)
        assert set(states.values()) <= FINAL
        with self.installation.database.read() as connection:
            rows = connection.execute(select(audits)).all()
            for row in rows:
                if row.state == "finished":
                    report = self.installation.reports.get(row.report)
                    assert report is not None
                    assert hashlib.sha256(report).hexdigest() == row.report
                    assert json.loads(report)["verdict"] == row.verdict
            open_attempts = connection.execute(
                select(func.count()).select_from(attempts).where(attempts.c.ended_at.is_(None))
            ).scalar_one()
            assert open_attempts == 0
            if self.sqlite:
                assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
        assert attempts_of(self.data) == []
        left = [each for each in self.data.rglob("*.partial") if "work" not in each.parts]
        assert left == []

    def close(self) -> None:
        """End every process."""
        for each in self.processes:
            if each.process.poll() is None:
                each.kill()
        self.installation.close()


def attempts_of(data: Path, seconds: float = 5.0) -> list[int]:
    """Processes of attempts that work in a data folder, after a moment in which they may end."""
    deadline = time.monotonic() + seconds
    while True:
        found = []
        for each in attempts_running():
            try:
                if str(data) in os.readlink(f"/proc/{each}/cwd"):
                    found.append(each)
            except OSError:
                continue
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


@pytest.fixture(scope="session")
def long_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of some 30 shards, whose content takes a while to read."""
    folder = tmp_path_factory.mktemp("long") / "model"
    forge(folder, like="tiny")
    return folder


@pytest.fixture
def service(database_url: str, tmp_path: Path, long_checkpoint: Path) -> Iterator[Service]:
    """An installation of which nothing runs yet."""
    made = Service(tmp_path / "data", database_url, long_checkpoint)
    yield made
    made.close()
