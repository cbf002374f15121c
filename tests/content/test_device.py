"""The memory that bytes are read into."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.content.cpu import slab_bytes
from auditor.content.device import Buffer


@settings(deadline=None)
@given(offset=st.integers(0, 1 << 40), size=st.integers(1, 300_000))
def test_a_buffer_keeps_its_distance_from_the_page_cache_and_aligns_elements(offset: int, size: int) -> None:
    """Copies from a page to the same page 1 to 31 bytes further are an order of magnitude slower."""
    run = Buffer(1000).at(offset, size)
    assert run.size == size
    assert run.ctypes.data % 64 == 0
    assert 32 <= (run.ctypes.data - offset) % 4096 < 4096


@pytest.mark.parametrize(("threads", "each"), [(1, 8), (4, 8), (5, 6.4), (8, 4), (32, 4), (64, 2), (128, 1), (1000, 1)])
def test_threads_share_a_budget_of_buffers(threads: int, each: float) -> None:
    assert slab_bytes(threads) == int(each * (1 << 20))
