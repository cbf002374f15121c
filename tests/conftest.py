"""What every test relies on: reproducible, unhurried property tests, and the GPU where there is one."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(scope="session")
def cuda() -> str:
    """The name of the first CUDA device; tests that need one are skipped where there is none."""
    from auditor.content import gpu

    found = gpu.available()
    if not found.names:
        pytest.skip(f"no CUDA device: {found.reason.removeprefix('no CUDA device: ')}")
    return found.names[0]
