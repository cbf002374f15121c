"""What a GPU reaches: ROUNDS. Prints the device, and seconds and bytes of each contender, as JSON; 'null' without one.

- `copy`: one half of a device buffer to the other; its bytes are those moved, read and written;
- `kernel`: the extremes of 128 × 128 blocks of codes that lie on the device;
- `pinned`: bare copies of slabs from pinned memory to the device;
- `pipeline`: the same slabs from pinned memory through a device of the auditor's, results back on the host.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Callable

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
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    print(json.dumps({"device": found.name, "versions": versions, "contenders": measured}))


if __name__ == "__main__":
    main()
