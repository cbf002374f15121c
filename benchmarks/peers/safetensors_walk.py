"""The reference reader: opens every shard with safetensors and asks each tensor's shape and dtype."""

import os
import sys

from safetensors import safe_open

folder = sys.argv[1]
tensors = 0
for name in sorted(os.listdir(folder)):
    if name.endswith(".safetensors"):
        with safe_open(os.path.join(folder, name), framework="numpy") as shard:
            for key in shard.keys():  # noqa: SIM118  # no mapping: it has keys() and no iterator
                view = shard.get_slice(key)
                view.get_shape(), view.get_dtype()
                tensors += 1
print(tensors)
