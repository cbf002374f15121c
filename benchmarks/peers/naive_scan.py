"""The obvious check: every tensor of FOLDER through safetensors and torch, as float32, and is any of it NaN."""

import os
import sys

import torch
from safetensors import safe_open

torch.set_num_threads(2)
folder = sys.argv[1]
tensors = 0
for file in sorted(os.listdir(folder)):
    if file.endswith(".safetensors"):
        with safe_open(os.path.join(folder, file), framework="pt") as shard:
            for name in shard.keys():  # noqa: SIM118  # no mapping: it has keys() and no iterator
                if torch.isnan(shard.get_tensor(name).float()).any():
                    print(name)
                tensors += 1
print(tensors)
