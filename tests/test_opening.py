"""Every command opens a checkpoint in the same way: over a network it waits once, and it leaves nothing open."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from auditor import audit, cli
from auditor.forge import forge
from tests.servers.serving import Reply, Request, Server, ranged

SHARDS = 20
DELAY = 0.05


class Crowd:
    """The most requests that were under way at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        yield
        with self._lock:
            self.now -= 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint whose shards are so many that asking for one after the other takes a second."""
    folder = tmp_path_factory.mktemp("far") / "checkpoint"
    forge(folder, like="tiny", sparse=True)
    index = folder / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    there = sorted(folder.glob("*.safetensors"))
    names = {old.name: f"model-{n:05d}-of-{SHARDS:05d}.safetensors" for n, old in enumerate(there, 1)}
    for old in there:
        old.rename(folder / names[old.name])
    document["weight_map"] = {name: names[file] for name, file in document["weight_map"].items()}
    for number in range(len(there) + 1, SHARDS + 1):
        name, shard = f"more.{number}", f"model-{number:05d}-of-{SHARDS:05d}.safetensors"
        header = f'{{"{name}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}'.encode()
        (folder / shard).write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
        document["weight_map"][name] = shard
    index.write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("command", ["audit", "verify", "diff", "count", "tensor"])
def test_shards_are_asked_for_together_whatever_the_question(
    command: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    report = tmp_path / "report.json"
    report.write_text(audit(folder).model_dump_json())
    crowd = Crowd()

    def answer(request: Request) -> Reply:
        with crowd.one():
            time.sleep(DELAY)
            return ranged(folder / request.target.path.lstrip("/"), request)

    with Server(answer) as server:
        arguments = {
            "verify": [str(report), server.url],
            "diff": [str(report), server.url],
            "tensor": [server.url, "more.20"],
        }.get(command, [server.url])
        begun = time.monotonic()
        assert cli.main([command, *arguments]) in (0, 1), capfd.readouterr().err
        took = time.monotonic() - begun
    headers = [each for each in server.requests if each.target.path.startswith("/model-")]
    assert len(headers) == SHARDS  # each once
    assert crowd.most > SHARDS // 4  # one after the other, there is one
    assert took < SHARDS * DELAY


@pytest.mark.parametrize("command", ["audit", "verify", "diff", "count", "count config", "tensor", "lint"])
def test_no_command_leaves_a_descriptor_open(command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    folder, report = str(tmp_path / "checkpoint"), tmp_path / "report.json"
    report.write_text(audit(folder).model_dump_json())
    arguments = {
        "verify": ["verify", str(report), folder],
        "diff": ["diff", str(report), folder],
        "count config": ["count", f"{folder}/config.json"],
        "tensor": ["tensor", folder, "model.norm.weight"],
    }.get(command, [command, folder])
    assert cli.main(arguments) == 0, capfd.readouterr().err
    before = os.listdir("/proc/self/fd")
    assert cli.main(arguments) == 0
    assert os.listdir("/proc/self/fd") == before
