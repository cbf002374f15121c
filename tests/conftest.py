"""What tests share: reproducible, unhurried property tests, a certificate, a browser, the GPU where there is one."""

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.chromium import browser as browser
from tests.chromium import playwright as playwright
from tests.servers import parts

# What a shell starts in the background ignores interruptions, and so would every command that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of this machine that nobody trusts yet."""
    return parts.certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def cuda() -> str:
    """The name of the first CUDA device; tests that need one are skipped where there is none."""
    from auditor.content import gpu

    found = gpu.available()
    if not found.names:
        pytest.skip(f"no CUDA device: {found.reason.removeprefix('no CUDA device: ')}")
    return found.names[0]
