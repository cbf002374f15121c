"""The auditor's transport without the audit: the start of every shard, all at once."""

import sys

from auditor.sources import open_source

port, shards = int(sys.argv[1]), int(sys.argv[2])
source = open_source(f"http://127.0.0.1:{port}/", cache=False)
names = [f"model-{number:05}-of-{shards:06}.safetensors" for number in range(1, shards + 1)]
source.ahead(names, lambda *_: 0)
print(sum(len(source.open(name).read(0, 80 << 10)) == 80 << 10 for name in names))
