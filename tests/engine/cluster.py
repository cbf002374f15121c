"""A Ray cluster on this machine as the tests have it, in a process of its own, and audits on it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.servers.serving import Server

ROOT = Path(__file__).parents[2]
TOKEN = "a token of forty characters, at the least"
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "none",  # where a head says that they are off
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "schemas", ROOT / "reports"))),
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-bucket",
}


class Nodes:
    """A cluster on this machine, in a process of its own: nodes with a processor each, of which the head is one."""

    def __init__(self, folder: Path, environment: dict[str, str], *, head: int = 1, others: int = 2) -> None:
        # With this file in its home a head does not ask the cloud's metadata service where it is.
        (folder / "ray_bootstrap_config.yaml").write_text("{}\n", "utf-8")
        self.environment = {**environment, "HOME": str(folder)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.nodes", str(head), str(others)], cwd=ROOT, env=self.environment,
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / "nodes.log").open("w"),
        )  # fmt: skip
        self.address = self.ask("address")

    def ask(self, word: str) -> str:
        """Have something done to the nodes: add, kill, address."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        found = self._process.stdout.readline().strip()
        assert found, "the nodes are gone"
        return found

    def close(self) -> None:
        """Stop them."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def begin(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """An audit as a process."""
        command = [sys.executable, "-m", "auditor", *words]
        environment = {**self.environment, **more}
        return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def audit(self, source: object, *options: str, **more: str) -> subprocess.Popen[str]:
        """A full audit on these nodes, its report on standard output."""
        words = ["audit", str(source), "--depth", "full", "--seed", "1", "--json", "-"]
        return self.begin(*words, "--engine", f"ray://{self.address}", *options, **more)


def ended(process: subprocess.Popen[str]) -> tuple[int, dict]:
    """The exit code and the report, which is all that is on standard output."""
    out, err = process.communicate(timeout=180)
    assert process.returncode in (0, 1, 3), err
    return process.returncode, json.loads(out)


def told(err: str) -> list[dict]:
    """What progress was told, as lines of JSON."""
    return [json.loads(line) for line in err.splitlines() if line.startswith("{")]


def stable(report: dict) -> dict:
    return {name: value for name, value in report.items() if name not in ("run", "source")}


def judged(report: dict) -> str:
    """The report but for what it says of the run, as it is written."""
    return json.dumps({name: value for name, value in report.items() if name != "run"})


def wait_for(asked: Callable[[], bool], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not asked():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def reading(slow: Server, before: int) -> None:
    """Wait until nodes read tensor data, which is beyond the requests for headers."""
    wait_for(lambda: sum(request.target.path.endswith(".safetensors") for request in slow.requests[before:]) > 6)


def busy_workers(address: str) -> list[int]:
    """The workers of the cluster that do something: each is a child of one of its nodes, which name its address."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            busy = (place / "cmdline").read_bytes().startswith((b"ray::_there", b"ray::auditor"))
            if busy and address.encode() in Path(f"/proc/{_parent(place)}/cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


def _parent(place: Path) -> int:
    return int((place / "stat").read_text("ascii").rpartition(")")[2].split()[1])
