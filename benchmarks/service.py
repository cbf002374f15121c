"""Measures the service on loopback, as a whole process, by load generators that others wrote: wrk and k6.

    make benchmark-service    # or: python benchmarks/service.py [--k6 PATH] [--record] [--part NAME]

wrk comes from Debian, k6 from the peers' environment (benchmarks/peers/requirements.txt). k6 asks at a constant rate,
which is how late answers are; wrk asks as often as it is answered, which is how many there are. Every core should be
idle.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

from headers import HERE, Target, auditor, forged, machine

sys.path.append(str(HERE.parent))
from tests.servers.postgres import Postgres  # the server that the tests start

RESULTS = HERE / "results" / "service.md"
PARTS = HERE / "parts"
PARTS_OF = ("reads", "submissions", "audits", "lists", "queues")
STREAMS = 200
RATE = 300
BURST = 10_000
ROUNDS = 20
_TICKS = os.sysconf("SC_CLK_TCK")


class Service:
    """`auditor serve` in a process of its own, with its own data."""

    def __init__(self, data: Path, root: Path, **settings: object) -> None:
        self.data = data
        environment = {
            **os.environ,
            "AUDITOR_SERVICE_SOURCES__ROOTS": json.dumps([str(root)]),
            "AUDITOR_SERVICE_SOURCES__PER_HOST": "100",
            "AUDITOR_SERVICE_WEB__READS": "0",
            "AUDITOR_SERVICE_WEB__WRITES": "0",
            **{f"AUDITOR_SERVICE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [auditor(), "serve", "--data", str(data), "--port", "0"], env=environment, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        self.token, self.url = "", ""
        for line in self.process.stderr:
            if found := re.search(r"serving at (http://\S+)", line):
                self.url = found[1]
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        while self.get("/healthz")[0] != 200:
            time.sleep(0.005)
        self.started_s = time.perf_counter() - begun
        making = [auditor(), "service", "token", "create", "benchmark", "--scope", "admin", "--data", str(data)]
        self.token = subprocess.run(making, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One request of its own connection: the status and the answer."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=90)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        except OSError:
            return 0, None
        finally:
            connection.close()
        return answer.status, json.loads(text) if text[:1] in b"{[" and text else text

    def get(self, path: str) -> tuple[int, Any]:
        """One GET."""
        return self.ask("GET", path)

    def submit(self, source: Path, wait: int = 0, **more: object) -> Any:
        """An audit asked for."""
        status, audit = self.ask("POST", f"/v1/audits?wait={wait}", {"source": str(source), "force": True, **more})
        if status not in (200, 202):
            raise RuntimeError(f"{status}: {audit}")
        return audit

    def used(self) -> float:
        """Processor seconds of the service's own process."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def share(self, seconds: float) -> float:
        """Which share of a core the service's own process takes."""
        before, begun = self.used(), time.perf_counter()
        time.sleep(seconds)
        return 100 * (self.used() - before) / (time.perf_counter() - begun)

    def resident(self) -> float:
        """Its memory, in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", text)
        return int(found[1]) / 1000 if found else 0.0

    def end(self, how: int = signal.SIGTERM) -> None:
        """End it."""
        self.process.send_signal(how)
        self.process.wait(60)


@contextmanager
def served(folder: Path, name: str, root: Path, **settings: object) -> Iterator[Service]:
    """A service with new data, and its end."""
    service = Service(folder / name, root, **settings)
    try:
        yield service
    finally:
        service.end()


def wrk(service: Service, path: str, seconds: int) -> tuple[float, float]:
    """Requests a second, and the 99th percentile in milliseconds, over eight connections."""
    done = subprocess.run(
        ["wrk", "-t1", "-c8", f"-d{seconds}s", "--latency", "-H", f"Authorization: Bearer {service.token}",
         service.url + path],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    if "Non-2xx" in done.stdout:
        raise RuntimeError(done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    assert rate
    assert late
    return float(rate[1]), float(late[1]) * {"us": 0.001, "ms": 1, "s": 1000}[late[2]]


def k6(program: str, service: Service, **environment: object) -> dict[str, float]:
    """What k6 measured: p99 and the worst in milliseconds, how many answers were as they should be, how many not.

    A request that it could not make in its time is one that failed.
    """
    with tempfile.NamedTemporaryFile(suffix=".json") as summary:
        subprocess.run(
            [program, "run", "--quiet", "--no-usage-report", "--summary-export", summary.name,
             str(PARTS / "service.js")],
            env={**os.environ, "TOKEN": service.token, **{name: str(value) for name, value in environment.items()}},
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        told = json.loads(Path(summary.name).read_text())["metrics"]
    times, checks = told["http_req_duration"], told["checks"]
    lacking = checks["fails"] + told.get("dropped_iterations", {"count": 0})["count"]
    return {"p99": times["p(99)"], "max": times["max"], "answered": checks["passes"], "failed": lacking}


class Looping:
    """Header audits, two at a time, over and over."""

    def __init__(self, service: Service, source: Path) -> None:
        self._stopped = threading.Event()
        self.done = 0
        self._threads = [threading.Thread(target=self._loop, args=(service, source, n)) for n in range(2)]

    def _loop(self, service: Service, source: Path, first: int) -> None:
        turn = 0
        while not self._stopped.is_set():
            turn += 1
            service.submit(source, wait=60, policy_text=f"# {first} {turn}")
            self.done += 1

    def __enter__(self) -> "Looping":
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for each in self._threads:
            each.join()


def percentile(values: list[float], share: int) -> float:
    """A percentile of a few measurements."""
    return quantiles(values, n=100, method="inclusive")[share - 1]


def reads(folder: Path, layout: Path, program: str, say: Callable[[str], None]) -> list[Target]:
    """Start, idleness; status reads alone, while two header audits run in a loop, and beside event streams."""
    with served(folder, "reads", layout.parent, jobs=1) as service:
        targets = [Target("starts answering in", service.started_s, 3.0, " s")]
        path = f"/v1/audits/{service.submit(layout, wait=60)['id']}"
        time.sleep(3)
        targets.append(Target("idle, of a core", service.share(20), 3.0, " %"))
        targets.append(Target("idle, memory", service.resident(), 200.0, " MB"))
        constant = {"WHAT": "get", "URL": service.url + path, "RATE": RATE}
        most, _ = wrk(service, path, 10)
        alone = k6(program, service, **constant, SECONDS=10)
        with Looping(service, layout) as looping:
            begun = time.perf_counter()
            beside = k6(program, service, **constant, SECONDS=20)
            most_beside, _ = wrk(service, path, 10)
            took = time.perf_counter() - begun
        with _streams(service, layout) as open_streams:
            streaming = k6(program, service, **constant, SECONDS=15)
            say(f"{open_streams()} of {STREAMS} streams of a running audit at depth full were open to the end")
        say(f"status reads at {RATE}/s, p99: alone {alone['p99']:.1f} ms; beside {looping.done} header audits in "
            f"{took:.0f} s {beside['p99']:.1f} ms; beside {STREAMS} streams {streaming['p99']:.1f} ms")  # fmt: skip
        say(f"as many as there may be: alone {most:.0f}/s, beside the audits {most_beside:.0f}/s")
    return [
        *targets,
        Target(f"status reads at {RATE}/s beside two header audits, p99", beside["p99"], 50.0, " ms"),
        Target("of them, not answered in their time", beside["failed"], 0, ""),
        Target("the greatest rate alone by that beside audits", most / most_beside, 2.0, " ×"),
        Target(f"status reads at {RATE}/s beside {STREAMS} open event streams, p99", streaming["p99"], 50.0, " ms"),
        Target("of these, not answered in their time", streaming["failed"], 0, ""),
    ]


@contextmanager
def _streams(service: Service, layout: Path) -> Iterator[Callable[[], int]]:
    """Event streams, open on one audit that goes on and on, each told something already; how many still are."""
    audit = service.submit(layout, depth="full")["id"]
    opened = []
    for _ in range(STREAMS):
        stream = socket.create_connection((urlsplit(service.url).hostname, urlsplit(service.url).port))
        stream.sendall(
            f"GET /v1/audits/{audit}/events HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {service.token}\r\n\r\n".encode()
        )
        opened.append(stream)
    if not all(map(_told, opened)):
        raise RuntimeError("a stream ended before its first event")

    def still() -> int:
        """Those that nobody has ended."""
        count = 0
        for stream in opened:
            stream.setblocking(False)
            with suppress(BlockingIOError):
                while stream.recv(1 << 16):
                    pass
                continue
            count += 1
        return count

    yield still
    for each in opened:
        each.close()
    service.ask("POST", f"/v1/audits/{audit}/cancel")


def _told(stream: socket.socket) -> bool:
    """Wait for the first event of a stream; whether there is one."""
    told = b""
    while b"event: audit" not in told and (data := stream.recv(1 << 16)):
        told += data
    return b"event: audit" in told


def submissions(folder: Path, layout: Path, program: str, say: Callable[[str], None]) -> list[Target]:
    """20 submissions a second, then a burst of 10,000; none of them is begun meanwhile."""
    with served(folder, "submissions", layout.parent, content__each=0) as service:
        url = f"{service.url}/v1/audits"
        steady = k6(program, service, WHAT="post", URL=url, SOURCE=layout, RATE=20, SECONDS=30)
        begun = time.perf_counter()
        burst = k6(program, service, WHAT="post", URL=url, SOURCE=layout, COUNT=BURST, FIRST=1_000_000)
        took = time.perf_counter() - begun
        say(f"burst: {burst['answered']:.0f} of {BURST:,} accepted in {took:.1f} s, at most {burst['max']:.0f} ms each")
        lost = BURST - burst["answered"]
    return [
        Target("submission at 20/s, p99", steady["p99"], 100.0, " ms"),
        Target("submissions of these that failed", steady["failed"], 0, ""),
        Target(f"a burst of {BURST:,}", took, 60.0, " s"),
        Target("its slowest answer", burst["max"] / 1000, 2.0, " s"),
        Target("of it, not accepted", lost, 0, ""),
    ]


def queues(folder: Path, say: Callable[[str], None]) -> list[Target]:
    """A worker's share with 10,000 audits queued behind one that runs, at the host's limit: it looks and finds none."""
    targets = []
    with ExitStack() as ends:
        silent = ends.enter_context(socket.create_server(("127.0.0.1", 0)))
        source = f"http://127.0.0.1:{silent.getsockname()[1]}/model"
        postgres = Postgres()
        ends.callback(postgres.close)
        for name, given in (("SQLite", {}), ("PostgreSQL", {"database": postgres.database()})):
            settings = {"sources__hosts": '["127.0.0.1"]', "sources__private": "true", "sources__per_host": 1, **given}
            with served(folder, name, folder, **settings):
                pass  # which makes the schema
            filled = [sys.executable, str(PARTS / "service_rows.py"), str(folder / name), "queue", str(BURST), source]
            subprocess.run([*filled, *given.values()], check=True)
            with served(folder, name, folder, **settings) as service:
                while not (running := service.get("/v1/audits?state=running")[1]["items"]):
                    time.sleep(0.1)
                time.sleep(2)
                share = service.share(20)
                assert service.get("/v1/audits?state=running")[1]["items"][0]["id"] == running[0]["id"]
            targets.append(Target(f"a worker's share of a core with {BURST:,} queued, {name}", share, 10.0, " %"))
    say(f"the {BURST:,} queued wait for the limit on audits of one host, while the worker has room for one more")
    return targets


def audits(folder: Path, layout: Path, say: Callable[[str], None]) -> list[Target]:
    """A header audit by the API against the command, in turn."""
    with served(folder, "audits", layout.parent) as service:
        service.submit(layout, wait=60, policy_text="# warm")
        command, through = [], []
        for turn in range(ROUNDS):
            begun = time.perf_counter()
            subprocess.run([auditor(), "audit", str(layout), "--quiet"], check=True, capture_output=True)
            command.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            audit = service.submit(layout, wait=60, policy_text=f"# {turn}")
            through.append(time.perf_counter() - begun)
            assert audit["state"] == "finished", audit
    by_command, by_api = percentile(command, 95), percentile(through, 95)
    say(f"header audits, p95 of {ROUNDS}: by the command {by_command:.2f} s, by the API {by_api:.2f} s")
    return [Target("a header audit by the API beyond the command, p95", by_api - by_command, 1.0, " s")]


def lists(folder: Path) -> list[Target]:
    """Pages of a list of 100,000 audits, and the dashboard of 1,000 checkpoints."""
    data = folder / "lists"
    with served(folder, "lists", folder) as service:
        token = service.token
    subprocess.run([sys.executable, str(PARTS / "service_rows.py"), str(data), "1000", "100000"], check=True)
    service = Service(data, folder)
    service.token = token
    try:
        slowest, path = 0.0, "/v1/audits?limit=200"
        for _ in range(60):
            begun = time.perf_counter()
            _, page = service.get(path)
            slowest = max(slowest, time.perf_counter() - begun)
            path = f"/v1/audits?limit=200&next={page['next']}"
        for query in ("state=failed", "verdict=failed", "depth=full", "state=queued", "source=hf://org/model-7"):
            begun = time.perf_counter()
            service.get(f"/v1/audits?limit=200&{query}")
            slowest = max(slowest, time.perf_counter() - begun)
        dashboard = 0.0
        for _ in range(5):
            begun = time.perf_counter()
            status, _ = service.get("/")
            dashboard = max(dashboard, time.perf_counter() - begun)
            assert status == 200, status
    finally:
        service.end()
    return [
        Target("the slowest page of 100,000 audits", 1000 * slowest, 100.0, " ms"),
        Target("the dashboard of 1,000 checkpoints", 1000 * dashboard, 300.0, " ms"),
    ]


def main() -> None:
    """Measure, print, and record where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--k6", default=shutil.which("k6") or str(Path(sys.executable).parent / "peers" / "bin" / "k6"))
    parser.add_argument("--record", action="store_true", help=f"write {RESULTS.relative_to(HERE.parent)}")
    parser.add_argument("--part", action="append", choices=PARTS_OF, help="measure this alone; may be repeated")
    options = parser.parse_args()
    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="auditor-benchmark-") as made:
        folder = Path(made)
        layout = folder / "v3"
        forged(layout)
        parts: dict[str, Callable[[], list[Target]]] = {
            "reads": lambda: reads(folder, layout, options.k6, said.append),
            "submissions": lambda: submissions(folder, layout, options.k6, said.append),
            "audits": lambda: audits(folder, layout, said.append),
            "lists": lambda: lists(folder),
            "queues": lambda: queues(folder, said.append),
        }
        targets = [each for name in options.part or PARTS_OF for each in parts[name]()]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("fastapi", "uvicorn", "dbos", "sqlalchemy"))
    lines = [
        "# The service, measured",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}; {machine()}; {versions}.",
        "SQLite unless said otherwise, loopback; rates by wrk over eight connections, times by k6 at a constant rate.",
        "",
        *(f"- {line}" for line in said),
        "",
        "| target | measured | bound | met |",
        "|---|---:|---:|---|",
        *(each.row() for each in targets),
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if options.record:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
