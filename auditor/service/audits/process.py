"""One attempt's process: started with its order, listened to, and ended with all that it started."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auditor.service.audits.causes import CAUSES
from auditor.service.settings import PREFIX
from auditor.text import shown

_LINE = 1 << 20
_HEAD, _TAIL = 16 << 10, 48 << 10
_GRACE_S = 1.0


@dataclass(slots=True)
class Log:
    """The beginning and the end of what a process writes, however much that is."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    left_out: int = 0

    def add(self, data: bytes) -> None:
        """Take what was written."""
        room = _HEAD - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        beyond = len(self.tail) - _TAIL
        if beyond > 0:
            del self.tail[:beyond]
            self.left_out += beyond

    def text(self) -> str:
        """What is kept, control characters as escapes."""
        parts = [bytes(self.head).decode("utf-8", "replace")]
        if self.left_out:
            parts.append(f"\n[{self.left_out:,} bytes are left out here]\n")
        parts.append(bytes(self.tail).decode("utf-8", "replace"))
        return "\n".join(map(shown, "".join(parts).split("\n")))


class Process:
    """A process that makes one attempt. `resolved` is asked, once, whether to go on at the commit that was found."""

    def __init__(self, order: dict[str, Any], folder: Path, *, resolved: Callable[[str], bool]) -> None:
        self.log = Log()
        self.progress: str | None = None
        self.error: dict[str, str] | None = None
        self.commit: str | None = None
        self._resolved = resolved
        self._ended_by_us = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "auditor.service.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            # What reads what others wrote is given no secret of the service's.
            env={name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
            # A group of its own, which ends as one. In a session of its own it would be scheduled as somebody else's,
            # with a share like the whole service's, whatever its priority.
            process_group=0,
        )
        assert self._process.stdin is not None
        self._readers = [
            threading.Thread(target=self._listen, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for each in self._readers:
            each.start()
        self._say(json.dumps(order).encode() + b"\n")

    @property
    def id(self) -> int:
        """The process group."""
        return self._process.pid

    def wait(self, seconds: float) -> int:
        """The exit code, negative for a signal. Raises TimeoutError where it takes longer."""
        deadline = time.monotonic() + seconds
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        for each in self._readers:
            each.join(max(_GRACE_S, min(5.0, deadline - time.monotonic())))
        self._kill_group()  # whatever it left behind
        return code

    @property
    def ended_by_us(self) -> bool:
        """Whether `end` was called before the process had ended by itself."""
        return self._ended_by_us

    def end(self) -> None:
        """End the process and all that it started."""
        if self._process.poll() is None:
            self._ended_by_us = True
        self._kill_group()

    def _kill_group(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it is gone, which `wait` tells

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        while data := self._process.stderr.read1(1 << 16):  # type: ignore[attr-defined]  # a BufferedReader
            self.log.add(data)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(_LINE):
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict):
                self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        if "progress" in message:
            self.progress = json.dumps(message["progress"])
        elif isinstance(commit := message.get("resolved"), str):
            self.commit = commit[:300]
            if self._resolved(self.commit):
                self._say(b"go\n")
            else:
                self.end()
        elif isinstance(error := message.get("error"), dict):
            cause = error.get("cause")
            self.error = {
                "cause": cause if cause in CAUSES else "crashed",
                "reason": shown(str(error.get("reason", "")))[:2000],
            }
