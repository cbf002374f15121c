"""Measures remote header audits as whole processes against a server that answers from far away.

    make benchmark-remote     # or: python benchmarks/remote.py [--record] [--rounds N] [--strict]

The server (benchmarks/servers.py) is a process of its own on loopback that delays each request and each new connection.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from headers import MIB, PEERS, Target, auditor, forged, machine, versions

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "remote.md"
SHARDS = 163
REQUEST_MS, CONNECTION_MS = 60, 120


@dataclass(frozen=True)
class Run:
    """One process: wall seconds, peak resident bytes, and what the server counted."""

    seconds: float
    peak: int
    connections: int
    requests: int
    received: int


@dataclass(frozen=True)
class Command:
    """What is measured, under a name; `prints` is what it must print, where that is a number."""

    name: str
    words: tuple[str, ...]
    prints: int | None = None
    environment: tuple[tuple[str, str], ...] = ()
    fresh: str | None = None  # a variable that names an empty folder in each run


class Server:
    """The far server: its ports, without TLS and with it where there is a certificate, and its counts."""

    def __init__(self, port: int, tls: int | None, certificate: Path) -> None:
        self.port = port
        self.tls = tls
        self.certificate = certificate
        self.url = f"http://127.0.0.1:{port}"

    def counts(self) -> dict[str, int]:
        """Connections, requests and bytes since the last call."""
        with urllib.request.urlopen(f"{self.url}/-/counts") as answer:
            found: dict[str, int] = json.load(answer)
            return found


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """The server over a folder, until the block ends."""
    words = [sys.executable, str(HERE / "servers.py"), str(folder)]
    certificate = folder.with_suffix(".pem")
    if shutil.which("openssl") is None:
        print("TLS is not measured: there is no openssl to make a certificate with", file=sys.stderr)
    else:
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        made += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate)]
        made += ["-keyout", str(certificate.with_suffix(".key"))]
        subprocess.run(made, check=True, capture_output=True)
        words += ["--certificate", str(certificate)]
    words += ["--request-ms", str(REQUEST_MS), "--connection-ms", str(CONNECTION_MS)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port, *tls = map(int, process.stdout.readline().split())
            yield Server(port, tls[0] if tls else None, certificate)
        finally:
            process.terminate()


def measure(command: Command, server: Server) -> Run:
    """Run one process to its end; raises RuntimeError where it fails or counts something else."""
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryFile() as out:
        environment = {**os.environ, **dict(command.environment)}
        if command.fresh is not None:
            environment[command.fresh] = empty
        server.counts()
        begun = time.perf_counter()
        actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), 1)]
        process = os.posix_spawn(command.words[0], command.words, environment, file_actions=actions)
        _, status, usage = os.wait4(process, 0)
        seconds = time.perf_counter() - begun
        out.seek(0)
        printed = out.read().decode()
    if status != 0 or (command.prints is not None and int(printed) != command.prints):
        raise RuntimeError(f"{command.name}: exit {os.waitstatus_to_exitcode(status)}\n{printed}")
    counts = server.counts()
    return Run(
        seconds,
        usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        counts["connections"],
        counts["requests"],
        counts["bytes"],
    )


def in_turn(commands: Sequence[Command], server: Server, rounds: int) -> dict[str, list[Run]]:
    """Every command once per round, each round beginning with another; a first round warms caches and is dropped."""
    runs: dict[str, list[Run]] = {command.name: [] for command in commands}
    for turn in range(rounds + 1):
        begin = turn % len(commands)
        for command in [*commands[begin:], *commands[:begin]]:
            run = measure(command, server)
            if turn:
                runs[command.name].append(run)
    return runs


def commands_for(server: Server, tensors: int, hub_python: Path | None, cache: Path) -> list[Command]:
    """The audits and their peers; the cache of the warm ones is a folder of the benchmark's."""
    python, port, shards = sys.executable, str(server.port), str(SHARDS)
    web = (auditor(), "audit", f"{server.url}/", "--quiet")
    hub = (auditor(), "audit", "hf://org/model", "--quiet")
    at_hub, kept = (("HF_ENDPOINT", server.url), ("HF_TOKEN", "")), ("XDG_CACHE_HOME", str(cache))
    commands = [
        Command("raw sockets", (python, str(PEERS / "raw_sockets.py"), port, shards), SHARDS),
        Command("transport alone", (python, str(PEERS / "transport_alone.py"), port, shards), SHARDS),
        Command("audit https://", (*web, "--no-cache")),
        Command("audit https://, warm cache", web, environment=(kept,)),
        Command("audit hf://", (*hub, "--no-cache"), environment=at_hub),
        Command("audit hf://, warm cache", hub, environment=(*at_hub, kept)),
    ]
    if server.tls is not None:
        trusted = (("SSL_CERT_FILE", str(server.certificate)),)
        encrypted = (auditor(), "audit", f"https://127.0.0.1:{server.tls}/", "--quiet", "--no-cache")
        commands.append(Command("audit https://, with TLS", encrypted, environment=trusted))
    if hub_python is not None:
        peer = (str(hub_python), str(PEERS / "hub_remote.py"), port)
        commands.append(Command("huggingface_hub", peer, tensors, fresh="HF_HOME"))
    return commands


def targets_of(runs: dict[str, list[Run]]) -> list[Target]:
    """What was measured against what it has to be."""
    middle = {name: median(run.seconds for run in each) for name, each in runs.items()}
    raw, audit = middle["raw sockets"], middle["audit https://"]
    largest = {name: max(run.received for run in each) / 1e6 for name, each in runs.items()}
    targets = [
        Target("transport alone / raw sockets", middle["transport alone"] / raw, 1.4, " ×"),
        Target("audit https:// / raw sockets", audit / raw, 2.5, " ×"),
        Target("requests of an audit beyond one per shard", max(_beyond(runs["audit https://"])), 5, ""),
        Target("requests of an audit of hf:// beyond one per shard", max(_beyond(runs["audit hf://"])), 5, ""),
        Target("transferred by an audit", largest["audit https://"], 25, " MB"),
        Target("transferred by an audit of hf://", largest["audit hf://"], 25, " MB"),
        Target("transferred with a warm cache", largest["audit https://, warm cache"], 1, " MB"),
        Target("transferred by an audit of hf:// with a warm cache", largest["audit hf://, warm cache"], 1, " MB"),
        Target("peak memory of an audit", max(run.peak for run in runs["audit https://"]) / MIB, 150e6 / MIB, " MiB"),
    ]
    if "huggingface_hub" in middle:
        targets.insert(2, Target("audit https:// / huggingface_hub", audit / middle["huggingface_hub"], 0.25, " ×"))
    return targets


def _beyond(runs: Sequence[Run]) -> list[float]:
    return [float(run.requests - SHARDS) for run in runs]


def _row(name: str, runs: Sequence[Run], raw: float) -> str:
    times = [run.seconds * 1000 for run in runs]
    last = runs[-1]
    return (
        f"| {name} | {median(times):.0f} ms | {min(times):.0f} to {max(times):.0f} ms | {median(times) / raw:.2f} × "
        f"| {last.connections} | {last.requests} | {last.received / 1e6:.2f} MB "
        f"| {max(run.peak for run in runs) / MIB:.0f} MiB |"
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds (default: 9)")
    parser.add_argument("--hub-python", type=Path, help="an interpreter with benchmarks/peers/requirements.txt")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/remote.md")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is missed")
    options = parser.parse_args()
    if options.hub_python is None:
        print("huggingface_hub is not measured: name an interpreter with --hub-python", file=sys.stderr)
    busy = os.getloadavg()[0] > (os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(prefix="auditor-benchmark-") as name:
        folder, cache = Path(name) / "v3", Path(name) / "cache"
        tensors = forged(folder)
        with serving(folder) as server:
            commands = commands_for(server, tensors, options.hub_python, cache)
            runs = in_turn(commands, server, options.rounds)
    raw = median(run.seconds for run in runs["raw sockets"]) * 1000
    targets = targets_of(runs)
    lines = [
        "# Remote header audits, measured",
        "",
        *(["**Not on a quiet machine**: processes waited for processors before it began.", ""] if busy else []),
        f"{datetime.now(UTC):%Y-%m-%d}; {machine()}; {versions(options.hub_python)}.",
        "",
        f"Whole processes, {options.rounds} rounds in turn, against a server on loopback that delays each request by "
        f"{REQUEST_MS} ms and each new connection by {CONNECTION_MS} ms more; a forged sparse DeepSeek-V3 layout "
        f"({tensors:,} tensors in {SHARDS} shards). The server has a share in the same cores.",
        "",
        "| process | median | min to max | raw sockets × | connections | requests | transferred | peak memory |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *(_row(command.name, runs[command.name], raw) for command in commands),
        "",
        "| target | measured | bound | met |",
        "|---|---:|---:|---|",
        *(target.row() for target in targets),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.record:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text, "utf-8")
    return 1 if options.strict and not all(target.met for target in targets) else 0


if __name__ == "__main__":
    sys.exit(main())
