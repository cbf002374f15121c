"""Checkpoints where they live: each kind of source over a server on loopback, with a proxy for faults before it."""

from __future__ import annotations

import contextlib
import json
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from auditor import cli
from tests.servers import parts
from tests.servers.hub import Hub
from tests.servers.proxy import Fault, Proxy

# What must never be seen in anything that the auditor writes.
SECRETS = ("SECRETMARK", "X-Amz-", "Signature=", "sig=", "Bearer", "Authorization", "Basic ")
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
# Rules that only a listing answers.
LISTED = ("IDX101", "IDX105", "FIL103", "FIL104", "FIL105", "FIL110", "FIL111", "FIL113")
KINDS = ("web", "hub", "s3", "gs", "az")


@dataclass
class Place:
    """One kind of source: what names it, what the environment says, and how files get there."""

    kind: str
    uri: str
    environment: dict[str, str]
    faults: list[Fault]
    put: Callable[[Path], None]
    targets: Callable[[], list[str]]
    lists: bool = True

    def hear(self, monkeypatch: object) -> None:
        """Set the environment, and forget what a test before asked for."""
        for name in ("AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "HF_TOKEN", "NETRC"):
            monkeypatch.delenv(name, raising=False)  # type: ignore[attr-defined]
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)  # type: ignore[attr-defined]
        self.faults.clear()


@contextlib.contextmanager
def place(kind: str, work: Path) -> Iterator[Place]:
    """A place of one kind; empty until something is put there."""
    work.mkdir(parents=True, exist_ok=True)
    with _OPENERS[kind](work) as found:
        yield found


def audited(place: Place, capfd: object, *options: str) -> tuple[int, str, dict | None]:
    """Exit code, everything that was printed, and the report where there is one. Nothing of it holds a secret."""
    capfd.readouterr()  # type: ignore[attr-defined]
    code = cli.main(["audit", place.uri, "--json", "-", *options])
    out, err = capfd.readouterr()  # type: ignore[attr-defined]
    assert not [secret for secret in SECRETS if secret in out + err]
    report = json.loads(out) if out.startswith("{") else None
    assert report is None or len(report["incomplete_codes"]) == len(report["incomplete"])
    return code, out + err, report


def copied(folder: Path, target: Path) -> None:
    """Make `target` hold what `folder` holds, holes kept and times too."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in folder.rglob("*"):
        if path.is_file():
            to = target / path.relative_to(folder)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to)


@contextlib.contextmanager
def _web(work: Path) -> Iterator[Place]:
    root = work / "root"
    root.mkdir()
    with parts.nginx(root, work / "nginx") as port:
        proxy = Proxy("127.0.0.1", port)
        # A query with every file and a password in the address: both are credentials.
        uri = f"http://reader:SECRETMARK@127.0.0.1:{proxy.port}/org/model/?sig=SECRETMARK"
        yield Place(
            "web", uri, {}, proxy.faults, lambda f: copied(f, root / "org/model"), lambda: proxy.targets, lists=False
        )
        proxy.close()


@contextlib.contextmanager
def _hub(work: Path) -> Iterator[Place]:
    root = work / "first"
    root.mkdir()
    hub = Hub("org/model", root, token="hf_SECRETMARK")
    proxy = Proxy("127.0.0.1", hub.api.port)
    storage = Proxy("127.0.0.2", hub.storage.port, proxy.faults)
    hub.storage_url = storage.url
    storage.targets = proxy.targets  # in the order of both

    def put(folder: Path) -> None:
        to = work / f"revision-{len(hub.revisions)}"
        copied(folder, to)
        hub.push(to)

    environment = {"HF_ENDPOINT": proxy.url, "HF_TOKEN": "hf_SECRETMARK"}
    yield Place("hub", "hf://org/model", environment, proxy.faults, put, lambda: proxy.targets)
    proxy.close()
    storage.close()
    hub.close()


_AWS = {"AWS_ACCESS_KEY_ID": "AKIDSECRETMARK", "AWS_SECRET_ACCESS_KEY": "SECRETMARKkey", "AWS_REGION": "us-east-1"}
_AWS["AWS_SESSION_TOKEN"] = "SECRETMARKtoken"


@contextlib.contextmanager
def _s3(work: Path) -> Iterator[Place]:
    import boto3

    with parts.moto(work / "moto") as port:
        proxy = Proxy("127.0.0.1", port)
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket="models")

        def put(folder: Path) -> None:
            held = client.list_objects_v2(Bucket="models").get("Contents", [])
            for each in held:
                client.delete_object(Bucket="models", Key=each["Key"])
            for path in folder.rglob("*"):
                if path.is_file():
                    key = f"org/model/{path.relative_to(folder).as_posix()}"
                    client.put_object(Bucket="models", Key=key, Body=path.read_bytes())
            client.put_object(Bucket="models", Key="org/model-2/config.json", Body=b"another checkpoint's")

        environment = {**_AWS, "AWS_ENDPOINT_URL": proxy.url}
        yield Place("s3", "s3://models/org/model", environment, proxy.faults, put, lambda: proxy.targets)
        proxy.close()


@contextlib.contextmanager
def _gs(work: Path) -> Iterator[Place]:
    port = parts.free_port()
    proxy = Proxy("127.0.0.1", port)
    with parts.fake_gcs(work / "gcs", port, f"127.0.0.1:{proxy.port}"):
        interface, public = f"http://127.0.0.1:{port}", f"127.0.0.1:{proxy.port}"
        _json(public, f"{interface}/storage/v1/b", "POST", b'{"name": "models"}')

        def put(folder: Path) -> None:
            held = json.loads(_json(public, f"{interface}/storage/v1/b/models/o", "GET"))
            for each in held.get("items", []):
                _json(public, f"{interface}/storage/v1/b/models/o/{quote(each['name'], safe='')}", "DELETE")
            for path in folder.rglob("*"):
                if path.is_file():
                    name = quote(f"org/model/{path.relative_to(folder).as_posix()}", safe="")
                    where = f"{interface}/upload/storage/v1/b/models/o?uploadType=media&name={name}"
                    _json(public, where, "POST", path.read_bytes())

        # An account whose token is never asked for: obstore has no key to sign with, and reads as it does with tokens.
        account = {"gcs_base_url": proxy.url, "disable_oauth": True, "private_key": "", "private_key_id": ""}
        (work / "account.json").write_text(json.dumps({**account, "client_email": ""}), "utf-8")
        environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(work / "account.json")}
        yield Place("gs", "gs://models/org/model", environment, proxy.faults, put, lambda: proxy.targets)
        proxy.close()


def _json(host: str, url: str, method: str, body: bytes | None = None) -> bytes:
    """One request to Google's JSON interface at `url`, as though it had been made to `host`."""
    headers = {"Content-Type": "application/json", "Host": host}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=20) as answer:
        found: bytes = answer.read()
        return found


@contextlib.contextmanager
def _az(work: Path) -> Iterator[Place]:
    import obstore
    from obstore.store import AzureStore

    with parts.azurite(work / "azurite") as port:
        proxy = Proxy("127.0.0.1", port)
        account = {"account_name": "devstoreaccount1", "account_key": AZURITE_KEY}
        direct = {**account, "endpoint": f"http://127.0.0.1:{port}/devstoreaccount1"}
        _create_container(port)
        store = AzureStore("models", config=direct, client_options={"allow_http": True})

        def put(folder: Path) -> None:
            held = [each["path"] for page in obstore.list(store) for each in page]
            if held:
                obstore.delete(store, held)
            for path in folder.rglob("*"):
                if path.is_file():
                    obstore.put(store, f"org/model/{path.relative_to(folder).as_posix()}", path.read_bytes())

        environment = {
            "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1",
            "AZURE_STORAGE_ACCOUNT_KEY": AZURITE_KEY,
            "AZURE_STORAGE_ENDPOINT": f"{proxy.url}/devstoreaccount1",
        }
        yield Place("az", "az://models/org/model", environment, proxy.faults, put, lambda: proxy.targets)
        proxy.close()


def _create_container(port: int) -> None:
    """PUT ?restype=container with a shared key, which obstore does not do."""
    import base64
    import hashlib
    import hmac
    import http.client
    from email.utils import formatdate

    date, version = formatdate(usegmt=True), "2021-12-02"
    canonical = (
        f"x-ms-date:{date}\nx-ms-version:{version}\n/devstoreaccount1/devstoreaccount1/models\nrestype:container"
    )
    text = "PUT" + "\n" * 12 + canonical
    digest = hmac.new(base64.b64decode(AZURITE_KEY), text.encode(), hashlib.sha256).digest()
    headers = {"x-ms-date": date, "x-ms-version": version, "Content-Length": "0"}
    headers["Authorization"] = f"SharedKey devstoreaccount1:{base64.b64encode(digest).decode()}"
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", "/devstoreaccount1/models?restype=container", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    connection.close()


_OPENERS = {"web": _web, "hub": _hub, "s3": _s3, "gs": _gs, "az": _az}
