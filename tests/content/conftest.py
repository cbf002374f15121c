"""What tests of content read: a tiny checkpoint with real values, and a copy to break."""

import shutil
from pathlib import Path

import pytest

from auditor.forge import forge


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("content") / "tiny"
    forge(folder, like="tiny")
    return folder


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "tiny"))
