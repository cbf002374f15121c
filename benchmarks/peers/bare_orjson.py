"""The floor: reads the index and every shard's header, decodes them with orjson, and does nothing else."""

import os
import sys

import orjson

folder = sys.argv[1]
with open(os.path.join(folder, "model.safetensors.index.json"), "rb") as file:
    shards = sorted(set(orjson.loads(file.read())["weight_map"].values()))
tensors = 0
for shard in shards:
    with open(os.path.join(folder, shard), "rb", buffering=0) as file:
        header = orjson.loads(file.read(int.from_bytes(file.read(8), "little")))
    tensors += len(header) - ("__metadata__" in header)
print(tensors)
