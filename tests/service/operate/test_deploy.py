"""The files for operators: systemd's unit, the container, the proxies, and settings as their model has them."""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from auditor.service.access.tokens import Tokens
from auditor.service.installation import open_installation
from auditor.service.settings import Settings, load
from auditor.service.settings.files import SECRETS
from tests.servers import parts
from tests.service.running import Running

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
sys.path.insert(0, str(ROOT / "docs"))
import make_service_settings  # noqa: E402  # beside the pages that it writes


def test_example_settings_are_those_of_the_model() -> None:
    written = (ROOT / make_service_settings.EXAMPLE).read_text(encoding="utf-8")
    assert written == make_service_settings.example(), "make service-settings"


def test_table_of_settings_is_that_of_the_model() -> None:
    written = (ROOT / make_service_settings.PAGE).read_text(encoding="utf-8")
    assert written == make_service_settings.page(written), "make service-settings"


def test_example_settings_are_the_defaults_as_they_stand_and_when_each_is_taken(monkeypatch) -> None:
    for name in list(os.environ):
        if name.startswith("AUDITOR_SERVICE_"):
            monkeypatch.delenv(name)
    data = Path("/somewhere")
    assert load(DEPLOY / "service.toml", data=data) == load(data=data)
    text = (DEPLOY / "service.toml").read_text(encoding="utf-8")
    taken = re.sub(r"^# ([a-z_]+ = .+)$", r"\1", text, flags=re.MULTILINE)
    assert len(tomllib.loads(taken)) > 15
    assert Settings.model_validate(tomllib.loads(taken) | {"data": data}) == load(data=data)


# --- systemd ---


@pytest.fixture
def unit() -> dict[str, list[str]]:
    """The settings of the unit's service, each with every value that it is given."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (DEPLOY / "auditor.service").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_unit_ends_an_audit_that_is_too_large_and_not_the_service(unit) -> None:
    assert unit["OOMPolicy"] == ["continue"]
    assert unit["RestartPreventExitStatus"] == ["2"]
    assert int(unit["TimeoutStopSec"][0]) > 10


def test_unit_runs_what_the_command_has(unit) -> None:
    program, *words = unit["ExecStart"][0].split()
    assert program.endswith("/auditor")
    done = subprocess.run(
        [sys.executable, "-m", "auditor", words[0], "--help"], capture_output=True, text=True, timeout=60
    )
    assert {each for each in words if each.startswith("--")} <= set(re.findall(r"--[a-z]+", done.stdout))


def test_unit_shuts_the_service_in(unit) -> None:
    wanted = ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectClock", "ProtectHome", "ProtectKernelTunables")
    assert {name: unit[name] for name in wanted} == {name: ["yes"] for name in wanted}
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["CapabilityBoundingSet"] == [""]
    assert "MemoryDenyWriteExecute" not in unit  # compiled kernels


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    text = (DEPLOY / "auditor.service").read_text(encoding="utf-8").replace("/opt/auditor/bin/auditor", "/bin/true")
    (tmp_path / "auditor.service").write_text(text)
    for words in (["verify"], ["security", "--offline=true", "--threshold=20"]):
        done = subprocess.run(
            ["systemd-analyze", *words, str(tmp_path / "auditor.service")],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "auditor.service:" not in done.stderr, done.stderr


# --- containers ---


def test_container_runs_as_nobody_special_and_says_whether_it_lives() -> None:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    last = [line for line in lines if line.startswith("USER")][-1]
    assert int(last.split()[1].partition(":")[0]) > 0
    assert lines.index(last) > max(n for n, line in enumerate(lines) if line.startswith("RUN"))
    assert any(line.startswith("HEALTHCHECK") and "/healthz" in line for line in lines)
    assert not any(line.startswith("ADD") or "curl" in line or "wget" in line for line in lines)
    assert all("@" in line or ":" in line for line in lines if line.startswith("FROM"))


def test_what_is_copied_into_the_container_is_all_that_is_installed_from(tmp_path: Path) -> None:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8").partition("RUN")[0]
    for line in text.splitlines():
        if line.startswith("COPY"):
            *sources, target = line.split()[1:]
            for source in sources:
                place = tmp_path / (target + source if target.endswith("/") else target)
                place.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile)(ROOT / source, place)
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "out"),
        str(tmp_path),
    ]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "out").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    for each in ("auditor/service/serve.py", "auditor_schemas/policy.py", "auditor_reports/html.py"):
        assert each in names
    assert any(name.startswith("auditor/rule_pages/") for name in names)


def test_composed_services_have_read_only_roots_no_rights_and_listen_on_this_machine_alone() -> None:
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    services = composed["services"]
    for name in ("migrate", "api", "worker"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
        assert services[name]["environment"][SECRETS] == "/run/secrets"
    ports = [port for each in services.values() for port in each.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert {each for name in services for each in services[name].get("secrets", ())} == set(composed["secrets"])
    roles = {each["command"][2] for each in services.values() if each.get("command", [""])[0] == "serve"}
    assert roles == {"api", "worker"}


def test_secret_that_is_composed_is_a_setting(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "database").write_text("postgresql://auditor:x@database/auditor\n")
    monkeypatch.setenv(SECRETS, str(tmp_path))
    assert load().database_url == "postgresql://auditor:x@database/auditor"


# --- proxies ---


@pytest.fixture(params=["nginx", "caddy"])
def proxied(request: pytest.FixtureRequest, tmp_path: Path, certificate: Path) -> Iterator[tuple[httpx.Client, str]]:
    """A client of the service behind a real proxy with our example, and a token of scope admin."""
    program = shutil.which(request.param) or shutil.which(request.param, path="/usr/sbin:/usr/local/sbin")
    if program is None and request.param == "caddy":
        pytest.skip("Caddy is not installed")
    if program is None:
        parts.lacking("nginx", "make .venv/.servers installs it through apt")
        return
    (tmp_path / "data").mkdir(mode=0o700)
    service = Running(tmp_path / "data", "--port", "0", AUDITOR_SERVICE_PUBLIC_URL="https://auditor.example.org")
    try:
        installation = open_installation(Settings(data=tmp_path / "data"))
        tokens = Tokens(installation.database)
        reader, admin = (tokens.create(scope, [scope]).token for scope in ("read", "admin"))
        installation.close()
        port = parts.free_port()
        write = _nginx if request.param == "nginx" else _caddy
        command, environment = write(tmp_path, certificate, service.url, port, reader)
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen([program, *command], env=os.environ | environment, stdout=log, stderr=log)
        try:
            _wait_for(port, process, tmp_path / "log")
            with httpx.Client(
                base_url=f"https://127.0.0.1:{port}",
                headers={"Host": "auditor.example.org"},
                verify=False,
                timeout=20,
            ) as client:
                yield client, admin
        finally:
            process.terminate()
            process.wait(10)
    finally:
        service.stop()


def _changed(name: str, *changes: tuple[str, str]) -> str:
    """Our example, with a test's own port and files."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    for ours, theirs in changes:
        assert ours in text
        text = text.replace(ours, theirs)
    return text


def _nginx(folder: Path, certificate: Path, url: str, port: int, reader: str) -> tuple[list[str], dict[str, str]]:
    (folder / "reader").write_text(f'default "Bearer {reader}";\n')
    (folder / "people").write_text("me:{PLAIN}hunter2\n")
    text = _changed(
        "nginx.conf",
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("http://127.0.0.1:8765", url),
        ("/etc/ssl/auditor.pem", str(certificate)),
        ("/etc/ssl/auditor.key", str(certificate.with_suffix(".key"))),
        ("/etc/nginx/auditor-reader", str(folder / "reader")),
        ("/etc/nginx/auditor-people", str(folder / "people")),
    )
    temporary = "".join(
        f"{each}_temp_path {folder}/{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    who = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off; {who} pid {folder}/pid; error_log {folder}/log; events {{}}\n"
        f"http {{ access_log off; {temporary}\n{text}\n}}\n"
    )
    return ["-c", str(folder / "nginx.conf"), "-e", str(folder / "log")], {}


def _caddy(folder: Path, certificate: Path, url: str, port: int, reader: str) -> tuple[list[str], dict[str, str]]:
    text = _changed(
        "Caddyfile",
        (
            "auditor.example.org {",
            f"https://auditor.example.org:{port} {{\n\tbind 127.0.0.1\n"
            f"\ttls {certificate} {certificate.with_suffix('.key')}",
        ),
        ("127.0.0.1:8765", url.removeprefix("http://")),
        # Of `hunter2`, at the least cost.
        ("$2a$14$REPLACE.THIS.BY.A.HASH", "$2a$04$abcdefghijklmnopqrstuuV3duMsC0HpUex6N9qapiuOHHWkwRXVm"),
    )
    options = "{\n\tadmin off\n\tauto_https off\n\tdefault_sni auditor.example.org\n}\n"
    (folder / "Caddyfile").write_text(options + text)
    named = {"READER": reader, "XDG_DATA_HOME": str(folder / "caddy"), "XDG_CONFIG_HOME": str(folder / "caddy")}
    return ["run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"], named


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_people_behind_the_proxy_log_in_there_and_read_and_programs_show_their_token(proxied) -> None:
    client, admin = proxied
    me = {"Authorization": "Basic " + base64.b64encode(b"me:hunter2").decode()}
    bearer = {"Authorization": f"Bearer {admin}"}
    assert [client.get(path).status_code for path in ("/", "/v1/audits", "/metrics")] == [401] * 3
    assert [client.get(path, headers=me).status_code for path in ("/", "/v1/audits")] == [200] * 2
    assert client.get("/v1/tokens", headers=bearer).status_code == 200
    assert client.get("/v1/audits", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/metrics", headers=me).status_code == 403
    order = {"source": "hf://org/model"}
    assert client.post("/v1/audits", headers=me, json=order).status_code == 403
    assert client.post("/v1/audits", headers=bearer, json=order).status_code == 202
    assert client.post("/v1/hooks/hub", json={}).status_code not in (200, 202)


def test_people_who_sign_in_on_the_pages_are_taken_for_their_token(proxied) -> None:
    client, admin = proxied
    me = {"Authorization": "Basic " + base64.b64encode(b"me:hunter2").decode()}
    origin = {"Origin": "https://auditor.example.org", "Sec-Fetch-Site": "same-origin"}
    assert client.get("/v1/tokens", headers=me).status_code == 403
    signed = client.post("/login", headers={**me, **origin}, data={"token": admin})
    assert signed.status_code < 400, signed.text
    cookie = signed.headers["set-cookie"].partition(";")[0]
    assert cookie.startswith("__Host-auditor=")
    assert client.get("/v1/tokens", headers={**me, "Cookie": cookie}).status_code == 200


# --- nothing phones home ---

HOOK = """
import os, sys
def told(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(os.environ["CONNECTIONS"], "a") as file:
            file.write(f"{event} {arguments[1] if event == 'socket.connect' else arguments[0]!r}\\n")
sys.addaudithook(told)
"""


def test_service_that_is_idle_or_audits_a_folder_connects_to_nobody(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    said = tmp_path / "connections"
    said.touch()
    (tmp_path / "data").mkdir(mode=0o700)
    path = os.pathsep.join([str(tmp_path / "hook"), *os.environ.get("PYTHONPATH", str(ROOT)).split(os.pathsep)])
    running = Running(
        tmp_path / "data",
        "--port",
        "0",
        PYTHONPATH=path,
        CONNECTIONS=str(said),
        AUDITOR_SERVICE_SOURCES__ROOTS=json.dumps([str(checkpoint.parent)]),
    )
    try:
        installation = open_installation(Settings(data=tmp_path / "data"))
        token = Tokens(installation.database).create("me", ["submit"]).token
        installation.close()
        with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {token}"}, timeout=70) as client:
            made = client.post("/v1/audits?wait=60", json={"source": str(checkpoint)})
            assert made.json()["state"] == "finished", made.text
        peers = _peers(running.process.pid)
        time.sleep(5)
        peers |= _peers(running.process.pid)
    finally:
        running.stop()
    assert peers == set()
    assert said.read_text() == ""


def _peers(pid: int) -> set[str]:
    """Who a process has connections with, whatever library made them, but for its own clients on loopback."""
    own = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink() and each.exists()}
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            peer = fields[2]
            if f"socket:[{fields[9]}]" in own and not peer.endswith(":0000") and not peer.startswith("0100007F"):
                found.add(peer)
    return found
