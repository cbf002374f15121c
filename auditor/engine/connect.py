"""The way to a Ray cluster, or why there is none in one line: Ray itself waits for minutes and fills the terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from auditor.errors import AuditorError, SourceError, UsageError
from auditor.text import shown

ANSWER_S = 15
_LET_IN_S = 12  # of those, beside what Ray takes to be imported here and there


def imported() -> Any:
    """Ray, told to tell nobody, as it reads its environment when it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")
    records = logging.getLogRecordFactory()
    ours = "ray" not in sys.modules
    try:
        with quiet():
            import ray
            import ray.util.scheduling_strategies
    except ImportError:
        raise UsageError("--engine ray needs Ray: pip install 'checkpoint-auditor[ray]'") from None
    finally:
        logging.setLogRecordFactory(records)  # it gives every record of this process a field of its own
    if ours:  # it writes what it warns of to standard error; who imported it before has decided on that
        logging.getLogger("ray").setLevel(logging.CRITICAL + 1)
    return ray


def reach(address: str) -> None:
    """Look whether anybody listens, which Ray itself waits minutes for. Raises SourceError."""
    if address == "auto":
        return
    try:
        socket.create_connection(end_of(address), timeout=ANSWER_S / 3).close()
    except OSError as error:
        told = f"the Ray cluster at {shown(address)} cannot be reached: {error.strerror or error}"
        raise SourceError(told, code="unreachable") from None


def end_of(address: str) -> tuple[str, int]:
    """Host and port of an address, of IPv6 without its brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def try_to_connect(address: str) -> None:
    """Connect in a process of its own first: Ray may wait for minutes, end the process, and fill the terminal."""
    job = "ray.job_config.JobConfig(_client_job=True)"  # see Cluster
    program = f"import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, job_config={job}); ray.shutdown()"
    words = [sys.executable, "-P", "-c", program, address]  # nothing is imported from the folder that it is in
    hasty = {**os.environ, "RAY_NUM_REDIS_GET_RETRIES": "2"}
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_LET_IN_S, env=hasty)  # noqa: S603  # our own
    except subprocess.TimeoutExpired:
        raise refused(address, f"it does not let this machine in within {_LET_IN_S} s") from None
    if done.returncode:
        raise refused(address, done.stderr)


def refused(address: str, told: str) -> AuditorError:
    """An error of Ray's in a line of ours."""
    low = told.lower()
    where = "the Ray cluster of this machine" if address == "auto" else f"the Ray cluster at {shown(address)}"
    if "version mismatch" in low:
        lines = [line.strip() for line in told.splitlines() if "ray:" in line.lower() or "python:" in line.lower()]
        return UsageError(f"{where} has another version of Ray or Python: {shown(', '.join(lines)[:200])}")
    if "authenticat" in low or "token" in low:
        return UsageError(f"{where} refuses the token: set RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN here")
    if "could not find any running ray" in low:
        return SourceError(
            "no Ray cluster runs on this machine: name one, --engine ray://HOST:PORT", code="unreachable"
        )
    last = next((line.strip() for line in reversed(told.splitlines()) if line.strip()), told)
    return SourceError(f"{where} cannot be used: {shown(last[:200])}", code="unreachable")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Standard output is ours: what Ray prints there goes nowhere. Of a node that dies that is its log, in colours."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
