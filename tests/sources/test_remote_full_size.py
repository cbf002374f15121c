"""The release's layout, 689 GB of it sparse, audited over the network: the folder's report, one request a shard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import auditor
from auditor.forge import forge
from tests.servers import parts
from tests.servers.hub import Hub
from tests.servers.s3 import s3_server
from tests.sources.test_remote import same

COMMAND = [sys.executable, "-c", "from auditor.cli import entry; entry()"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full") / "org" / "v3"
    forge(folder, like="v3", sparse=True)
    return folder


@pytest.fixture(scope="module")
def local(release: Path) -> str:
    return auditor.audit(release).model_dump_json()


def audited(uri: str, environment: dict[str, str], tmp_path: Path, *options: str) -> dict:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [*COMMAND, "audit", uri, "--quiet", "--json", str(report), *options],
        env={**os.environ, **environment, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict = json.loads(report.read_text())
    return found


@pytest.fixture
def hub(release: Path) -> Iterator[Hub]:
    found = Hub("org/v3", release, token="hf_right")
    yield found
    found.close()


def test_https(release, local, tmp_path):
    with parts.nginx(release.parent, tmp_path / "nginx") as port:
        report = audited(f"http://127.0.0.1:{port}/v3", {}, tmp_path, "--no-cache")
    same(report, local, lists=False)


def test_s3(release, local, tmp_path):
    environment = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with s3_server(release.parent, "models", page=100) as server:
        environment["AWS_ENDPOINT_URL"] = server.url
        report = audited("s3://models/v3", environment, tmp_path, "--no-cache")
        same(report, local, lists=True)
        reads = [request for request in server.requests if "safetensors" in request.target.path]
        assert len([request for request in reads if "index" not in request.target.path]) == 163
        assert len(server.requests) <= 163 + 5


def test_gs_through_what_speaks_as_it_does(release, local, tmp_path):
    with s3_server(release.parent, "models", signed=False) as server:
        environment = {"GOOGLE_SKIP_SIGNATURE": "true", "GOOGLE_BASE_URL": server.url}
        same(audited("gs://models/v3", environment, tmp_path, "--no-cache"), local, lists=True)


def test_hub_and_its_cache(hub, release, local, tmp_path):
    environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_right"}
    report = audited("hf://org/v3", environment, tmp_path)
    assert report["source"]["revision"] == hub.main
    same(report, local, lists=True)
    assert len(hub.storage.requests) == 163
    again = audited("hf://org/v3", environment, tmp_path)
    same(again, local, lists=True)
    assert len(hub.storage.requests) == 163
    assert len(hub.api.requests) == 2 + 163 + 2  # repository information twice; config.json and index once
