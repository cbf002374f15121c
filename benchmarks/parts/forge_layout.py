"""Forges DeepSeek-V3's 91,991 tensors, small but with sound data, in about so many shards: FOLDER SHARDS.

Prints tensors, bytes and shards as JSON.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from forge_content import Content

from auditor.forge import LIKES
from auditor.forge.plan import Like, plan
from auditor.forge.write import write

SMALL = {
    "hidden_size": 256,
    "intermediate_size": 256,
    "moe_intermediate_size": 128,
    "vocab_size": 1024,
    "q_lora_rank": 128,
    "kv_lora_rank": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}


def main() -> None:
    """The command line."""
    folder, shards = Path(sys.argv[1]), int(sys.argv[2])
    like = Like(config="deepseek-v3", changes=SMALL, limit=1 << 40, total="payload")
    LIKES["layout"] = like
    size = sum(shard.payload for shard in plan("layout").shards)
    LIKES["layout"] = replace(like, limit=size // shards + (1 << 17))
    chosen = plan("layout")
    folder.mkdir(parents=True)
    write(chosen, folder, strips=Content().strips)
    tensors = list(chosen.tensors())
    print(json.dumps({"tensors": len(tensors), "bytes": sum(t.size for t in tensors), "shards": len(chosen.shards)}))


if __name__ == "__main__":
    main()
