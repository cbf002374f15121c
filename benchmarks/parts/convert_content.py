"""Converts a forged FP8 checkpoint, shard by shard: FOLDER OUT bf16, or ue8m0 for scales made powers of two.

By torch alone, with DeepSeek-V3's published formulas. Prints tensors, bytes and shards as JSON.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

INDEX = "model.safetensors.index.json"
SCALE = "_scale_inv"
BLOCK = 128


def spread(scale: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Each block's scale at each of its elements."""
    return scale.repeat_interleave(BLOCK, 0)[: shape[0]].repeat_interleave(BLOCK, 1)[:, : shape[1]]


def requantised(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales that are powers of two."""
    rows, columns = weight.shape
    padded = torch.zeros(-(-rows // BLOCK) * BLOCK, -(-columns // BLOCK) * BLOCK)
    padded[:rows, :columns] = weight.abs()
    amax = padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK).amax(dim=(1, 3)).clamp(min=1e-4)
    scale = torch.exp2(torch.ceil(torch.log2(amax / torch.tensor(448.0))))
    return (weight / spread(scale, weight.shape)).to(torch.float8_e4m3fn), scale


def main() -> None:
    """The command line."""
    folder, out, to = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    out.mkdir(parents=True)
    tensors = size = 0
    weight_map: dict[str, str] = {}
    shards = sorted(folder.glob("*.safetensors"))
    scales = {n: t for path in shards for n, t in load_file(path).items() if n.endswith(SCALE)}
    for path in shards:
        held = {}
        for name, tensor in load_file(path).items():
            scale = scales.get(name + SCALE)
            if name.endswith(SCALE):
                continue
            if scale is None:
                held[name] = tensor
                continue
            weight = tensor.float() * spread(scale, tensor.shape)
            if to == "bf16":
                held[name] = weight.bfloat16()
            else:
                held[name], held[name + SCALE] = requantised(weight)
        save_file(held, out / path.name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(held, path.name))
        tensors += len(held)
        size += sum(each.numel() * each.element_size() for each in held.values())
    (out / INDEX).write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": weight_map}))
    config = json.loads((folder / "config.json").read_text())
    if to == "bf16":
        del config["quantization_config"]
    else:
        config["quantization_config"]["scale_fmt"] = "ue8m0"
    (out / "config.json").write_text(json.dumps(config))
    print(json.dumps({"tensors": tensors, "bytes": size, "shards": len(shards)}))


if __name__ == "__main__":
    main()
