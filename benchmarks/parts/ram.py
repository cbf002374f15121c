"""What one process reaches on bytes in RAM: ROUNDS [CONTENDER...]. Prints seconds and bytes of each contender as JSON.

- `read`: two threads add up 1 GiB as 64-bit words, what memory gives;
- `kernel`: two threads reduce the same bytes to the extremes of 128 × 128 blocks, as many in one call as the reader
  has in memory at once; and numpy and torch at the same work;
- `verdict`: the round trip of a weight of 128 MiB from its bytes, against torch, which dequantises, quantises again and
  compares codes and scales: as a script does it, an expert's weight of 2,048 rows at a time, and tuned to this
  machine's cache, a strip of 128 rows at a time.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch

from auditor.content.blocks import Judge
from auditor.content.cpu import CpuDevice, slab_bytes
from auditor.content.formats import Blocks
from auditor.content.plan import Part, ScaleAt

THREADS = 2
SLOW_ROUNDS = 3  # of what takes seconds
PAUSE_S = 0.3  # torch's threads spin for a while after their work, on the cores that the next one needs
COLUMNS = 7168
BLOCK = (128, 128)
STRIP = 128 * COLUMNS  # a row of blocks, 0.9 MB
RUN = slab_bytes(THREADS) // STRIP  # strips that the reader has in memory at once
STRIPS = (1 << 30) // STRIP // (THREADS * RUN) * THREADS * RUN
EXPERT_STRIPS = 2048 // 128
WEIGHT_STRIPS = (128 << 20) // STRIP // EXPERT_STRIPS * EXPERT_STRIPS


@numba.njit(nogil=True)
def _sum(words: np.ndarray) -> int:
    total = np.uint64(0)
    for k in range(words.size):
        total += words[k]
    return total


def codes_of(strips: int, columns: int = COLUMNS) -> np.ndarray:
    """Random codes without NaN, each block with one of 448."""
    codes = np.random.default_rng(0).integers(0, 256, strips * STRIP, np.uint8)
    codes[(codes & 0x7F) == 0x7F] ^= 1
    rows = codes.reshape(-1, columns)
    rows[::128, ::128] = 0x7E
    return codes


def in_threads(work: Callable[[int], object]) -> None:
    """Run the work for each thread's number."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))


def main() -> None:
    """The command line."""
    rounds, chosen = int(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(THREADS)
    codes = codes_of(STRIPS)
    words = codes.view(np.uint64)
    devices = [CpuDevice() for _ in range(THREADS)]
    halves = [range(0, STRIPS // 2, RUN), range(STRIPS // 2, STRIPS, RUN)]

    def read(thread: int) -> None:
        half = words.size // THREADS
        _sum(words[thread * half : (thread + 1) * half])

    def kernel(thread: int) -> None:
        for strip in halves[thread]:
            devices[thread].extremes(codes[strip * STRIP : (strip + RUN) * STRIP], COLUMNS, BLOCK).result()

    def with_numpy(thread: int) -> None:
        for first in halves[thread]:
            for strip in range(first, first + RUN):
                rows = codes[strip * STRIP : (strip + 1) * STRIP].reshape(128, COLUMNS)
                (rows & 0x7F).max(axis=0).reshape(-1, 128).max(axis=1)

    def with_torch() -> None:
        # As signed bytes, of which torch has a fast maximum.
        for strips in torch.from_numpy(codes).view(-1, 128, COLUMNS).split(8):
            (strips & 0x7F).view(torch.int8).amax(dim=1).view(-1, COLUMNS // 128, 128).amax(dim=-1)

    weight = codes[: WEIGHT_STRIPS * STRIP]
    grid = (WEIGHT_STRIPS, COLUMNS // 128)
    amax = np.random.default_rng(1).uniform(0.05, 0.15, grid).astype(np.float32)
    scale_rc = amax / np.float32(448)
    part = Part("w", "F8_E4M3", (WEIGHT_STRIPS * 128, COLUMNS), 0, weight.size, (), ScaleAt("f", 0, 0, grid))
    judges = [Judge(part, scale_rc, Blocks(BLOCK, False)) for _ in range(THREADS)]

    def verdict(thread: int) -> None:
        for strip in range(thread * RUN, WEIGHT_STRIPS, THREADS * RUN):
            run = weight[strip * STRIP : (strip + RUN) * STRIP]
            judges[thread].add(run, strip, devices[thread].extremes(run, COLUMNS, BLOCK).result())

    contenders: dict[str, tuple[Callable[[], object], int]] = {
        "read": (lambda: in_threads(read), codes.size),
        "kernel": (lambda: in_threads(kernel), codes.size),
        "numpy": (lambda: in_threads(with_numpy), codes.size),
        "torch": (with_torch, codes.size),
        "verdict": (lambda: in_threads(verdict), weight.size),
        "torch verdict": (lambda: _torch_verdict(weight, scale_rc, EXPERT_STRIPS), weight.size),
        "torch verdict by strip": (lambda: _torch_verdict(weight, scale_rc, 1), weight.size),
    }
    contenders = {name: each for name, each in contenders.items() if not chosen or name in chosen}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, (work, _) in contenders.items():
            if name.startswith("torch verdict") and turn > SLOW_ROUNDS:
                continue
            begun = time.perf_counter()
            work()
            if turn:  # the first compiles and warms
                seconds[name].append(time.perf_counter() - begun)
            if "torch" in name:
                time.sleep(PAUSE_S)
    counted = sum(judge.result().exact for judge in judges)
    assert chosen or counted == (rounds + 1) * grid[0] * grid[1], "every block must have been judged exact"
    print(json.dumps({name: {"seconds": seconds[name], "bytes": size} for name, (_, size) in contenders.items()}))


def _torch_verdict(weight: np.ndarray, scale_rc: np.ndarray, strips: int) -> None:
    """Dequantise, quantise again by the published formula, compare; so many strips at a time."""
    codes = torch.from_numpy(weight).view(-1, 128, COLUMNS // 128, 128)
    scales = torch.from_numpy(scale_rc)
    for stored, scale in zip(codes.split(strips), scales.split(strips), strict=True):
        values = stored.view(torch.float8_e4m3fn).float() * scale[:, None, :, None]
        again = values.abs().amax(dim=(1, 3)).clamp(min=1e-4) / 448
        requantised = (values / again[:, None, :, None]).to(torch.float8_e4m3fn).view(torch.uint8)
        assert torch.equal(again, scale)
        assert torch.equal(requantised, stored)


if __name__ == "__main__":
    main()
