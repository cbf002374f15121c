"""Full disks, failing stores, clocks that disagree, bursts, upgrades: what was accepted ends, once."""

import contextlib
import http.client
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import httpx
import pytest
from sqlalchemy import func, select, text, update

from auditor.service.access.tokens import Tokens
from auditor.service.audits.order import Order
from auditor.service.store.tables import attempts, audits
from tests.servers.parts import moto
from tests.servers.postgres import Postgres
from tests.servers.serving import Reply, Request, Server, ranged
from tests.service.faults.conftest import Service
from tests.service.running import Running


class Proxy:
    """Before a store: hands requests on, or answers each with 500 while it is `failing`."""

    def __init__(self, host: str, port: int) -> None:
        self.failing = False
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if front.failing:
                    status, headers, data = 500, {}, b"<Error><Code>InternalError</Code></Error>"
                else:
                    connection = http.client.HTTPConnection(host, port, timeout=30)
                    connection.request(self.command, self.path, body, dict(self.headers))
                    found = connection.getresponse()
                    status, headers, data = found.status, dict(found.headers), found.read()
                    connection.close()
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815  # as http.server looks for them

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def skewed(tmp_path: Path) -> dict[str, str]:
    """An environment in which a process takes its wall clock to be two hours ahead, and to jump back and forth."""
    folder = tmp_path / "skew"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import time\nreal = time.time\nmonotonic = time.monotonic\n"
        "time.time = lambda: real() + (7200 if int(monotonic()) % 4 < 2 else -7200)\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def test_clocks_that_are_hours_apart_and_jump_lose_and_delay_nothing(service: Service, skewed: dict[str, str]) -> None:
    process = service.start(**skewed)
    other = None if service.sqlite else service.start()
    for number in range(4):
        service.submit("full" if number % 2 else "headers", number)
    assert service.all_final(90) < 90
    for each in filter(None, (process, other)):
        assert each.stop() == 0
        assert not [line for line in each.lines if "lost" in line]
    service.check()
    assert set(service.states().values()) == {"finished"}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_several_workers_never_take_the_same_job(service: Service) -> None:
    processes = [service.start() for _ in range(3)]
    for number in range(20):
        service.submit("headers", number)
    service.all_final(120)
    with service.installation.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(attempts)).scalar_one() == 20
        assert connection.execute(select(func.count(attempts.c.worker.distinct()))).scalar_one() > 1
    for each in processes:
        assert each.stop() == 0
    service.check()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_attempt_that_several_sweeps_add_at_once_is_made_once(service: Service) -> None:
    for number in range(12):
        service.submit("headers", number)
    with service.installation.database.write() as connection:
        connection.execute(update(audits).values(attempt=2, job=None, due_at=0))
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda _: service.installation.recovery.add_due(), range(4)))
    assert sum(added) == 12
    processes = [service.start() for _ in range(2)]
    service.all_final(120)
    for each in processes:
        assert each.stop() == 0
    with service.installation.database.read() as connection:
        made = [(row.audit, row.n) for row in connection.execute(select(attempts))]
    assert sorted(made) == sorted((audit, 2) for audit in service.accepted)
    assert set(service.states().values()) == {"finished"}
    service.check()


def test_unfinished_jobs_of_a_former_version_are_carried_over(service: Service) -> None:
    process = service.start()
    running = service.submit("full")
    service.wait(lambda states: states[running] == "running", 30)
    process.kill()
    waiting = service.submit("headers", 1)
    schema = "" if service.sqlite else "dbos."
    with service.installation.database.write() as connection:
        connection.execute(text(f"UPDATE {schema}workflow_status SET application_version = '0'"))
    process = service.start()
    service.all_final(120)
    assert {service.states()[each] for each in (running, waiting)} == {"finished"}
    assert process.stop() == 0
    service.check()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_second_service_on_the_same_data_is_refused_in_one_line(service: Service) -> None:
    process = service.start()
    second = subprocess.run(
        [sys.executable, "-m", "auditor", "serve", "--data", str(service.data), "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert "another auditor serves this data" in second.stderr
    assert process.stop() == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_after_a_kill_jobs_run_again_within_five_seconds(service: Service) -> None:
    process = service.start()
    audit = service.submit("full")
    service.wait(lambda states: states[audit] == "running", 30)
    process.kill()
    begun = time.monotonic()
    process = service.start()
    while True:
        with service.installation.database.read() as connection:
            row = connection.execute(select(audits.c.attempt, audits.c.state)).one()
        if row.attempt == 2 and row.state in ("running", "finished"):
            break
        assert time.monotonic() - begun < 15
        time.sleep(0.02)
    print(f"again after {time.monotonic() - begun:.2f} s, of which the start took {process.started_s:.2f}")
    service.all_final(60)
    assert process.stop() == 0
    service.check()


class Clients:
    """Clients that ask until they are answered: each submission has a key, and is repeated after a failure."""

    def __init__(self, service: Service, url: str) -> None:
        self.service = service
        self.url = url
        self.token = Tokens(service.installation.database).create("clients", ("submit",)).token
        self.audits: dict[str, str] = {}
        self.worst_s = 0.0
        self._lock = threading.Lock()

    def submit(self, numbers: Iterator[int], until: float) -> None:
        """Submit until all are accepted."""
        with httpx.Client(timeout=30) as client:
            while (number := next(numbers, None)) is not None:
                headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": f"key-{number}"}
                body = {"source": str(self.service.checkpoint), "depth": "sample", "seed": number, "force": True}
                while time.monotonic() < until:
                    begun = time.monotonic()
                    try:
                        answer = client.post(f"{self.url}/v1/audits", json=body, headers=headers)
                    except httpx.TransportError:
                        time.sleep(0.1)
                        continue
                    if answer.status_code in (429, 503):
                        time.sleep(min(float(answer.headers["Retry-After"]), 2))
                        continue
                    assert answer.status_code == 202, answer.text
                    with self._lock:
                        self.audits[f"key-{number}"] = answer.json()["id"]
                        self.worst_s = max(self.worst_s, time.monotonic() - begun)
                    break

    def run(self, count: int, threads: int, seconds: float) -> float:
        """Submit so many from several threads at once; how long it took."""
        numbers = _shared(iter(range(count)))
        begun = time.monotonic()
        every = [
            threading.Thread(target=self.submit, args=(numbers, begun + seconds), daemon=True) for _ in range(threads)
        ]
        for each in every:
            each.start()
        for each in every:
            each.join(seconds)
        return time.monotonic() - begun


def _shared(numbers: Iterator[int]) -> Iterator[int]:
    lock = threading.Lock()

    class Shared:
        def __iter__(self) -> "Shared":
            return self

        def __next__(self) -> int:
            with lock:
                return next(numbers)

    return Shared()


def _serving(service: Service, port: int, *, content: int = 0) -> Running:
    arguments = ["--port", str(port)]
    if not service.sqlite:
        arguments += ["--role", "api", "--database", service.url]
    process = Running(
        service.data,
        *arguments,
        AUDITOR_SERVICE_SOURCES__ROOTS=f'["{service.checkpoint.parent}"]',
        AUDITOR_SERVICE_WEB__WRITES="0",
        AUDITOR_SERVICE_CONTENT__EACH=str(content),
    )
    service.processes.append(process)
    return process


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_whoever_was_answered_202_has_one_audit_though_the_api_was_killed(service: Service, kills: int) -> None:
    process = _serving(service, 0)
    port = int(process.url.rpartition(":")[2])
    clients = Clients(service, process.url)
    count = kills * 6
    submitting = threading.Thread(target=clients.run, args=(count, 4, kills * 30.0))
    submitting.start()
    for _ in range(kills):
        time.sleep(1.0)
        process.kill()
        process = _serving(service, port)
    submitting.join(kills * 30)
    assert len(clients.audits) == count
    with service.installation.database.read() as connection:
        found = set(connection.execute(select(audits.c.id)).scalars())
    assert found == set(clients.audits.values())
    assert len(found) == count
    for each in found:
        service.installation.audits.cancel(each)
    service.accepted = list(found)
    assert process.stop() == 0
    service.check()


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_ten_thousand_submissions_in_a_burst_lose_none(service: Service) -> None:
    process = _serving(service, 0)
    clients = Clients(service, process.url)
    took = clients.run(10_000, 16, 300)
    print(f"10,000 submissions in {took:.1f} s, the slowest answer {clients.worst_s:.2f} s")
    assert len(set(clients.audits.values())) == 10_000
    with service.installation.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(audits)).scalar_one() == 10_000
    assert process.stop() == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("no file systems can be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_refuses_and_loses_nothing_and_when_freed_all_ends(
    small_disk: Path, migrated_file: Path, long_checkpoint: Path
) -> None:
    data = small_disk / "data"
    data.mkdir(mode=0o700)
    (data / "auditor.sqlite3").write_bytes(migrated_file.read_bytes())
    service = Service(data, f"sqlite:///{data / 'auditor.sqlite3'}", long_checkpoint)
    try:
        process = _serving(service, 0, content=1)
        clients = Clients(service, process.url)
        clients.run(2, 1, 60)
        service.accepted = list(clients.audits.values())
        filler = small_disk / "filler"
        descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(descriptor, b"\0" * 4096)
        os.close(descriptor)
        headers = {"Authorization": f"Bearer {clients.token}"}
        refused = httpx.post(
            f"{process.url}/v1/audits",
            json={"source": str(long_checkpoint), "depth": "full"},
            headers=headers,
            timeout=60,
        )
        if refused.status_code == 202:  # there was room for it in a page that was begun
            service.accepted.append(refused.json()["id"])
        else:
            assert refused.status_code == 503, refused.text
            assert int(refused.headers["Retry-After"]) > 0
        assert httpx.get(f"{process.url}/v1/audits", headers=headers, timeout=60).status_code == 200
        time.sleep(3)
        filler.unlink()
        service.all_final(120)
        assert process.stop() == 0
        service.check()
        assert set(service.states().values()) == {"finished"}
    finally:
        service.close()


def test_no_shard_that_was_finished_is_read_again(database_url: str, tmp_path: Path, long_checkpoint: Path) -> None:
    def answer(request: Request) -> Reply:
        name = request.target.path.lstrip("/")
        begin = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0] or 0)
        if name.endswith(".safetensors") and begin:
            time.sleep(0.4)
        return ranged(long_checkpoint / name, request)

    with Server(answer) as server:
        service = Service(tmp_path / "data", database_url, long_checkpoint)
        try:
            environment = {
                "AUDITOR_SERVICE_SOURCES__HOSTS": '["127.0.0.1"]',
                "AUDITOR_SERVICE_SOURCES__PRIVATE": "true",
                "AUDITOR_SERVICE_JOBS": "1",
            }
            process = service.start(**environment)
            order = Order(source=f"{server.url}/", depth="full")
            audit = service.installation.audits.submit(order).audit
            service.accepted.append(audit)
            resume = service.data / "work" / audit / "resume"
            finished: set[str] = set()
            for kept in (1, 2):
                deadline = time.monotonic() + 90
                while len(finished := _finished(resume, long_checkpoint)) < kept:
                    assert time.monotonic() < deadline, process.lines[-10:]
                    time.sleep(0.02)
                process.kill()
                process = service.start(**environment)
            service.all_final(120)
            with service.installation.database.read() as connection:
                report = service.installation.reports.get(connection.execute(select(audits.c.report)).scalar_one())
            assert json.loads(report or b"")["run"]["resumed_shards"] >= len(finished) >= 2
            assert process.stop() == 0
            service.check()
            assert service.states()[audit] == "finished"
        finally:
            service.close()


def _finished(resume: Path, checkpoint: Path) -> set[str]:
    """The shards whose results are kept."""
    import hashlib

    kept = {each.stem for each in resume.glob("*.msgpack")}
    shards = [each.name for each in checkpoint.glob("*.safetensors")]
    return {each for each in shards if hashlib.sha256(each.encode()).hexdigest()[:24] in kept}


def test_a_store_that_fails_for_a_while_delays_and_loses_nothing(
    postgres: Postgres, migrated: str, tmp_path: Path, long_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.database(migrated)
    with moto(tmp_path / "moto") as port, Proxy("127.0.0.1", port) as store:
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store.port}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="reports")
        store.failing = True
        service = Service(tmp_path / "data", url, long_checkpoint, reports="s3://reports/x")
        try:
            process = service.start(AUDITOR_SERVICE_REPORTS="s3://reports/x", **environment)
            audit = service.submit("headers")
            service.wait(lambda states: states[audit] == "running", 30)
            time.sleep(6)
            assert service.states()[audit] == "running", "it waits for the store"
            store.failing = False
            service.all_final(60)
            assert process.stop() == 0
            service.check()
            assert service.states()[audit] == "finished"
        finally:
            service.close()
            postgres.drop(url)
