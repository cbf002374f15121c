"""A service in processes of its own, as `auditor serve` starts it, to be stopped and killed."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_SAYS = re.compile(r"serving at (http://\S+)|takes audits")


class Running:
    """One process of the service. `url` is where it answers, '' for a worker."""

    def __init__(self, data: Path, *arguments: str, **environment: str) -> None:
        self.data = data
        self.lines: list[str] = []
        self.url = ""
        self._ready = threading.Event()
        begun = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "auditor", "serve", "--data", str(data), *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        if not self._ready.wait(60):
            self.kill()
            raise AssertionError("the service did not start:\n" + "\n".join(self.lines[-30:]))
        self.started_s = time.monotonic() - begun

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            if said := _SAYS.search(line):
                self.url = said[1] or ""
                self._ready.set()

    def token(self) -> str:
        """A new token of scope admin, as an administrator makes one beside a running service."""
        words = ["service", "token", "create", "test", "--scope", "admin", "--data", str(self.data)]
        made = subprocess.run([sys.executable, "-m", "auditor", *words], capture_output=True, text=True, check=True)
        return made.stdout.strip()

    def kill(self) -> None:
        """SIGKILL, for this process alone."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("it did not stop:\n" + "\n".join(self.lines[-30:])) from None

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.process.pid, signal.SIGCONT)


def attempts_running() -> list[int]:
    """The processes of attempts on this machine."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if b"auditor.service.child" in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found
