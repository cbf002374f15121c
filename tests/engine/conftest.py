"""One checkpoint, its bucket that is slow to answer, and one cluster for all tests of a file."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor.forge import forge
from tests.engine.cluster import SETTINGS, Nodes
from tests.servers.s3 import s3_server
from tests.servers.serving import Reply, Request, Server, ranged

DELAY_S = 0.4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forge(tmp_path_factory.mktemp("ray") / "tiny").directory


@pytest.fixture(scope="module")
def slow(tiny: Path) -> Iterator[Server]:
    """A bucket whose every answer takes a moment."""

    def answer(request: Request) -> Reply:
        name = request.target.path.rpartition("/")[2]
        if request.query.get("list-type") or not name.endswith(".safetensors"):
            return inner(request)
        time.sleep(DELAY_S)
        return ranged(tiny / name, request)

    with s3_server(tiny.parent, "models") as bucket:
        inner = bucket.answer
        with Server(answer) as server:
            yield server


@pytest.fixture(scope="module")
def nodes(slow: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("nodes")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    found = Nodes(folder, {**kept, **SETTINGS, "AWS_ENDPOINT_URL": slow.url, "XDG_CACHE_HOME": str(folder)})
    yield found
    found.close()
