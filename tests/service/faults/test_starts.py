"""A process that starts: beside others, before its database, on an empty one, at an address that others reach."""

import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psycopg
import pytest

from auditor.service import migrate
from auditor.service.installation import open_installation
from auditor.service.settings import Settings
from tests.servers.postgres import Postgres
from tests.service.running import Running


def refused(*arguments: str) -> str:
    """The line with which `auditor serve` refuses to start."""
    done = subprocess.run(
        [sys.executable, "-m", "auditor", "serve", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_several_processes_may_start_at_once_on_an_empty_database(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.database()
    started: list[Running] = []

    def start(n: int) -> None:
        role = ("--role", "api", "--port", "0") if n == 0 else ("--role", "worker")
        started.append(Running(tmp_path / str(n), *role, "--database", url))

    threads = [threading.Thread(target=start, args=(n,)) for n in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(started) == 3
    for each in started:
        assert each.stop() == 0
    installation = open_installation(Settings(data=tmp_path / "0", database=url))
    assert len(set(migrate.state(installation.database))) == 1
    installation.close()
    postgres.drop(url)


def test_what_serves_on_postgresql_keeps_the_schema_from_being_changed(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.database()
    where = ("--data", str(tmp_path), "--database", url)

    def migrated() -> tuple[int, str]:
        words = [sys.executable, "-m", "auditor", "service", "migrate", *where]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout + done.stderr

    started = [
        Running(tmp_path, *role, "--database", url) for role in (("--role", "api", "--port", "0"), ("--role", "worker"))
    ]
    assert migrated() == (0, "schema 0001\n")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM alembic_version")  # as if it were of another version
    for kind in ("api", "worker"):
        code, said = migrated()
        assert code == 2
        assert said.startswith("auditor: stop first what serves this database: role ")
        assert said.count("\n") == 1
        assert f"role {kind} on " in said
        assert started.pop(0).stop() == 0
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
    assert migrated() == (0, "schema 0001\n")
    postgres.drop(url)


def test_a_process_that_starts_before_its_database_waits_for_it_and_says_so(tmp_path: Path) -> None:
    server = Postgres()
    try:
        url = server.database()
        server.stop()
        made: list[Running] = []
        starting = threading.Thread(target=lambda: made.append(Running(tmp_path, "--port", "0", "--database", url)))
        starting.start()
        time.sleep(8)
        assert not made
        server.start()
        starting.join(60)
        (process,) = made
        waits = [line for line in process.lines if "the database does not answer" in line]
        assert len(waits) >= 2
        assert url not in "\n".join(process.lines)
        assert httpx.get(f"{process.url}/healthz").status_code == 200
        assert process.stop() == 0
    finally:
        server.close()


def test_an_address_that_others_reach_needs_a_token_first(tmp_path: Path) -> None:
    assert "auditor service token create" in refused("--data", str(tmp_path), "--host", "0.0.0.0", "--port", "0")


def test_the_first_token_is_told_once_and_on_a_terminal_alone(tmp_path: Path) -> None:
    process = Running(tmp_path, "--port", "0")
    assert process.stop() == 0
    assert "audtk_" not in "\n".join(process.lines)
    told = next(line for line in process.lines if "nobody has a token yet" in line)
    assert told.endswith(f"auditor service token create NAME --scope admin --data {tmp_path}")
    assert [_on_a_terminal(tmp_path).count("audtk_") for _ in range(2)] == [1, 0]
    process = Running(tmp_path, "--port", "0")
    assert process.stop() == 0
    assert "token create" not in "\n".join(process.lines)


def _on_a_terminal(data: Path) -> str:
    """What `auditor serve` writes on a terminal until it listens."""
    ours, its = pty.openpty()
    words = [sys.executable, "-m", "auditor", "serve", "--data", str(data), "--port", "0"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=its)
    os.close(its)
    said = b""
    try:
        while b"serving at" not in said:
            said += os.read(ours, 1 << 16)
    finally:
        process.terminate()
        assert process.wait(30) == 0
        os.close(ours)
    return said.decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--role", "worker"), "needs PostgreSQL"),
        (("--database", "mysql://host/name"), "mysql"),
        (("--database", "nonsense"), "database"),
        (("--host", "203.0.113.7"), "203.0.113.7"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused("--data", str(tmp_path), *arguments)
