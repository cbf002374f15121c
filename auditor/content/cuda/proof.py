"""Whether the kernel works on a device at all: held against numpy before anything is read with it."""

import numpy as np

from auditor.content.cpu import CpuDevice
from auditor.content.cuda.device import CudaDevice


def prove(index: int = 0) -> None:
    """Compare the kernel on a device with numpy, and with the processor's, on bytes of every kind.

    Raises RuntimeError where they differ.
    """
    block, columns = (128, 128), 576
    codes = np.random.default_rng(0).integers(0, 256, (200, columns), np.uint8)
    codes[:128, :128], codes[:128, 128:256], codes[:128, 256:384] = 0, 0xFF, np.arange(128, dtype=np.uint8)
    device = CudaDevice(index, slab_bytes=codes.size)
    try:
        memory = device.buffer(codes.size)[: codes.size]
        memory[:] = codes.ravel()
        seen = device.extremes(memory, columns, block).result()
    finally:
        device.close()
    pieces = [np.split(rows, range(128, columns, 128), axis=1) for rows in np.split(codes, [128])]
    signed = np.array([[piece.view(np.int8).max() for piece in row] for row in pieces])
    unsigned = np.array([[piece.max() for piece in row] for row in pieces])
    zeros = int(np.count_nonzero((codes & 0x7F) == 0))
    if (
        not (np.array_equal(seen.signed_rc, signed) and np.array_equal(seen.unsigned_rc, unsigned))
        or seen.zeros != zeros
    ):
        raise RuntimeError("the kernel and numpy disagree on the same bytes")
    wanted = CpuDevice(codes.size).extremes(codes.ravel(), columns, block).result()
    if not (np.array_equal(seen.alike_r, wanted.alike_r) and np.array_equal(seen.small, wanted.small)):
        raise RuntimeError("the kernel and the processor's disagree on the same bytes")
