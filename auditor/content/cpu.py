"""The CPU as a device: one thread's buffer, and weight blocks reduced while their strip is in the cache."""

from typing import NamedTuple

from auditor.content.device import Buffer, Bytes, Extremes
from auditor.content.kernels.strips import CHUNK, reduce_strip

# What is read at once stays in the processor's cache for the kernels, and is enough that threads seldom wait for the
# interpreter's lock between two calls: two of them are a tenth faster with 8 MiB than with 4. Of the cache that they
# share few threads have more each. All together have a budget.
SLAB_BYTES, SHARED_SLAB_BYTES, LEAST_SLAB_BYTES = 8 << 20, 4 << 20, 1 << 20
CACHE_BYTES, BUFFERS_BYTES = 32 << 20, 128 << 20


def slab_bytes(threads: int) -> int:
    """How much each of so many threads of a machine reads at once."""
    most = max(SHARED_SLAB_BYTES, min(SLAB_BYTES, CACHE_BYTES // threads))
    return max(LEAST_SLAB_BYTES, min(most, BUFFERS_BYTES // threads))


class _Reduced(NamedTuple):
    extremes: Extremes

    def result(self) -> Extremes:
        return self.extremes


class CpuDevice:
    """A `Device` on the CPU."""

    name = "cpu"
    depth = 0
    reproduce = None

    def __init__(self, slab_bytes: int = SLAB_BYTES) -> None:
        self.slab_bytes = slab_bytes
        self._buffer = Buffer(slab_bytes)

    def buffer(self, size: int, offset: int) -> Bytes:
        """The one buffer; what it held is done with."""
        return self._buffer.at(offset, size)

    def extremes(self, strip: Bytes, columns: int, block: tuple[int, int], phase: int = 0) -> _Reduced:
        """Reduce a strip at once."""
        found = Extremes(*reduce_strip(strip, columns, *block, phase))
        if block[1] % CHUNK:
            found.alike_r[:] = 0
            found.small[:] = 0
        return _Reduced(found)

    def close(self) -> None:
        """Nothing outlives the thread."""
