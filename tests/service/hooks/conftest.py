"""What tests of hooks and watches share: a stand-in of the hub, and an installation that may ask it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor.service.hooks.asking import Asking
from auditor.service.installation import Installation, open_installation
from auditor.service.settings import Settings
from tests.servers.hub import Hub


@pytest.fixture
def hub(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub with one repository, org/model."""
    server = Hub("org/model", checkpoint)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.close()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The same, with the loopback addresses of stand-ins allowed."""
    sources = settings.sources.model_copy(update={"hosts": ("127.0.0.1", "127.0.0.2"), "private": True})
    return settings.model_copy(update={"sources": sources})


@pytest.fixture
def asking(installation: Installation) -> Asking:
    return Asking(installation)


@pytest.fixture
def opened(settings: Settings) -> Iterator[Installation]:
    """A second process's view of the same installation."""
    installation = open_installation(settings)
    yield installation
    installation.close()
