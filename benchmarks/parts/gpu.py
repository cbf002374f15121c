"""What a GPU reaches: ROUNDS. Prints the device, and seconds and bytes of each contender, as JSON; 'null' without one.

- `copy`: one half of a device buffer to the other; its bytes are those moved, read and written;
- `kernel`: the extremes of 128 × 128 blocks of codes that lie on the device;
- `pinned`: bare copies of slabs from pinned memory to the device;
- `pipeline`: the same slabs from pinned memory through a device of the auditor's, results back on the host;
- `reproduced`: a slab's blocks under scales that decide none of them, code by code, against the CPU's kernel.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from auditor.content import gpu

COLUMNS = 7168
BLOCK = (128, 128)
SLAB_ROWS = 2048  # an expert's weight: 14.7 MB
SLABS = 256


def main() -> None:
    """The command line."""
    found = gpu.available()
    if not found.names:
        print(f"GPU figures are left out: {found.reason}", file=sys.stderr)
        print("null")
        return
    import torch

    from auditor.content.cuda.device import CudaDevice
    from auditor.content.cuda.kernel import Shape, reduce

    rounds = int(sys.argv[1])
    torch.cuda.set_device(0)
    slab_bytes = SLAB_ROWS * COLUMNS
    size = SLABS * slab_bytes
    codes = torch.randint(0, 256, (size,), dtype=torch.uint8, device="cuda")
    shape = Shape(SLABS * SLAB_ROWS, COLUMNS, BLOCK)
    results = torch.empty(shape.results, dtype=torch.uint8, device="cuda")
    device = CudaDevice(slab_bytes=slab_bytes)
    for _ in range(device.depth + 1):
        device.buffer(slab_bytes)[:] = codes[:slab_bytes].cpu().numpy()
    pinned = torch.empty(slab_bytes, dtype=torch.uint8, pin_memory=True)

    def copy() -> None:
        codes[: size // 2].copy_(codes[size // 2 :])

    def bare() -> None:
        for slab in range(SLABS):
            codes[slab * slab_bytes : (slab + 1) * slab_bytes].copy_(pinned, non_blocking=True)

    def pipeline() -> None:
        under_way = deque()
        for _ in range(SLABS):
            under_way.append(device.extremes(device.buffer(slab_bytes), COLUMNS, BLOCK))
            if len(under_way) > device.depth:
                under_way.popleft().result()
        while under_way:
            under_way.popleft().result()

    contenders: dict[str, tuple[Callable[[], None], int]] = {
        "copy": (copy, size),
        "kernel": (lambda: reduce(codes, shape, results), size),
        "pinned": (bare, size),
        "pipeline": (pipeline, size),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, (work, _) in contenders.items():
            torch.cuda.synchronize()
            begun = time.perf_counter()
            work()
            torch.cuda.synchronize()
            if turn:  # the first compiles
                seconds[name].append(time.perf_counter() - begun)
    device.close()
    measured = {name: {"seconds": seconds[name], "bytes": moved} for name, (_, moved) in contenders.items()}
    reproduced = _reproduced(codes[:slab_bytes].cpu().numpy(), torch.device("cuda"))
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    print(json.dumps({"device": found.name, "versions": versions, "contenders": measured, "reproduced": reproduced}))


def _reproduced(strip: Any, device: Any) -> dict[str, Any]:
    import numpy as np

    from auditor.content.cuda.reproduce import reproduce
    from auditor.content.fp8 import decode_table
    from auditor.content.kernels import roundtrip

    strip = np.where((strip & 0x7F) == 0x7F, strip ^ 1, strip)  # no NaN
    grid = (SLAB_ROWS // BLOCK[0], COLUMNS // BLOCK[1])
    scale_rc = np.exp(np.random.default_rng(0).normal(-9, 1, grid)).astype(np.float32)
    where_rc = np.ones(grid, np.bool_)
    magnitudes = decode_table()[:128].copy()
    codes_of = strip.reshape(SLAB_ROWS, COLUMNS)
    equal = True
    for rounding in (roundtrip.FLOAT32, roundtrip.POWER_OF_TWO, roundtrip.BF16):
        begun = time.perf_counter()
        found = reproduce(strip, COLUMNS, BLOCK, where_rc, scale_rc, rounding, device=device)
        seconds = time.perf_counter() - begun
        for (r, c), scale in np.ndenumerate(scale_rc):
            codes = codes_of[r * BLOCK[0] : (r + 1) * BLOCK[0], c * BLOCK[1] : (c + 1) * BLOCK[1]]
            present = np.zeros(128, np.bool_)
            present[np.unique(codes & 127)] = True
            wanted = roundtrip.reproduce(present, magnitudes, scale, rounding)
            equal &= wanted == (found.outcome_rc[r, c], found.error_rc[r, c], found.survives_rc[r, c])
    return {"equal": bool(equal), "blocks": scale_rc.size, "seconds": seconds}


if __name__ == "__main__":
    main()
