"""Forges a sparse checkpoint in DeepSeek-V3's shapes with another number of layers: FOLDER LAYERS."""

import sys
from pathlib import Path

from auditor.forge import LIKES, forge
from auditor.forge.plan import Like

LIKES["layers"] = Like(
    config="deepseek-v3", changes={"num_hidden_layers": int(sys.argv[2])}, limit=1 << 32, total="elements"
)
print(forge(Path(sys.argv[1]), like="layers", sparse=True).tensors)
