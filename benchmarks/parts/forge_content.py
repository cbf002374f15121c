"""Forges a sound checkpoint of about so many gigabytes in DeepSeek-V3's shapes, in seconds: FOLDER GIGABYTES.

A shard ends with the tensor by which it holds half a GiB of elements, or as many as a third word says.

Layers and experts are fewer, and the vocabulary is an eighth, so that weight blocks are most of the bytes as they
are in the release; `--sparse` keeps the whole vocabulary (two tensors of 1.85 GB) and leaves holes for all data.
Codes are windows of one buffer, no two alike, spread as those of weights, each block with a code of 448; scales are
made from a maximum as published. Prints tensors, bytes and shards as JSON.
"""

import json
import sys
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np

from auditor.content.fp8 import encode_e4m3
from auditor.forge import LIKES
from auditor.forge.plan import Like, Plan, Tensor, plan
from auditor.forge.write import write

_BUFFER = 96 << 20
_STRIP = 128
_LAYER_BYTES = 0.94e9  # of a layer with 16 experts and one shared
_OTHER_BYTES = 1.05e9  # the dense layer and the vocabulary


class Content:
    """Bytes for each tensor, from windows of random buffers."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self._begun = {-1}  # where windows begin, of which no two are alike
        self._bf16: dict[str, list[np.ndarray]] = {}  # by the stream that a copy shares with its original
        # As a bell curve is quantised whose largest value in a block is 4.2 deviations.
        parts = (self.random.standard_normal(_BUFFER // 24, np.float32) for _ in range(24))
        self.codes = np.concatenate([encode_e4m3(np.clip(part * 107, -448, 448)) for part in parts])
        self.bf16 = (self.random.standard_normal(_BUFFER // 4, np.float32) * 0.02).view(np.uint32) >> 16
        self.bf16 = self.bf16.astype(np.uint16)

    def strips(self, tensor: Tensor) -> Iterator[bytes]:
        """The bytes of a tensor from its first to its last."""
        if tensor.values == "scales":
            amax = self.random.uniform(0.05, 0.15, prod(tensor.shape)).astype(np.float32)
            yield (amax / np.float32(448)).tobytes()
        elif tensor.values == "codes":
            rows, columns = tensor.shape
            for begin in range(0, rows, _STRIP):
                strip = self._window(self.codes, min(_STRIP, rows - begin) * columns).reshape(-1, columns).copy()
                strip[0, ::_STRIP] = 0x7E
                yield strip.data
        elif tensor.dtype == "BF16":
            windows = self._bf16.setdefault(tensor.stream, [])
            if not windows:
                size, most = prod(tensor.shape), 1 << 22
                windows += (self._window(self.bf16, min(most, size - begin)) for begin in range(0, size, most))
            yield from (window.tobytes() for window in windows)
        else:
            yield self.random.standard_normal(prod(tensor.shape), np.float32).tobytes()

    def _window(self, buffer: np.ndarray, size: int) -> np.ndarray:
        begin = -1
        while begin in self._begun:
            begin = int(self.random.integers(0, buffer.size - size))
        self._begun.add(begin)
        return buffer[begin : begin + size]


def plan_of(gigabytes: float, *, sparse: bool, elements: int) -> Plan:
    """A plan of about so many bytes, in shards of so many elements."""
    layers = 1 + max(1, round((gigabytes * 1e9 - _OTHER_BYTES) / _LAYER_BYTES))
    changes = {
        "num_hidden_layers": 2 if sparse else layers,
        "first_k_dense_replace": 1,
        "n_routed_experts": 16,
        "num_nextn_predict_layers": 0,
    }
    if not sparse:
        changes["vocab_size"] = 129_280 // 8
    LIKES["benchmark"] = Like(config="deepseek-v3", changes=changes, limit=elements, total="payload")
    return plan("benchmark")


def main() -> None:
    """The command line."""
    folder, gigabytes, sparse = Path(sys.argv[1]), float(sys.argv[2]), "--sparse" in sys.argv
    elements = int(next((word for word in sys.argv[3:] if word.isdecimal()), 1 << 29))
    chosen = plan_of(gigabytes, sparse=sparse, elements=elements)
    folder.mkdir(parents=True, exist_ok=True)
    write(chosen, folder, strips=None if sparse else Content().strips)
    tensors = list(chosen.tensors())
    print(json.dumps({"tensors": len(tensors), "bytes": sum(t.size for t in tensors), "shards": len(chosen.shards)}))


if __name__ == "__main__":
    main()
