"""Conversions as others make them: published formulas, written down again in torch, and what goes wrong with them.

A checkpoint is a dict of tensors in memory. Nothing here is the auditor's code.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)  # threads that wait for each other on a busy machine take minutes

Tensors = dict[str, torch.Tensor]
INDEX = "model.safetensors.index.json"
SCALE = "_scale_inv"
BLOCK = 128


def loaded(folder: Path) -> Tensors:
    """Every tensor of a checkpoint."""
    tensors: Tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(path))
    return tensors


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def saved(folder: Path, tensors: Tensors, config: dict, *, shards: int = 3, order: Callable = sorted) -> Path:
    """A checkpoint of so many shards, in an order of names."""
    folder.mkdir(parents=True)
    names = list(order(tensors))
    weight_map = {}
    for shard in range(shards):
        held = names[shard::shards] if shards > 4 else names[shard * len(names) // shards :][: -(-len(names) // shards)]
        held = [name for name in held if name not in weight_map]
        file = f"model-{shard + 1:05d}-of-{shards:06d}.safetensors"
        save_file({name: tensors[name].contiguous() for name in held}, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(held, file))
    assert weight_map.keys() == tensors.keys()
    size = sum(each.numel() * each.element_size() for each in tensors.values())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


# --- FP8 to floats ---


def spread(scale: torch.Tensor, shape: torch.Size, block: int = BLOCK) -> torch.Tensor:
    """Each block's scale at each of its elements."""
    rows = scale.float().repeat_interleave(block, 0)[: shape[0]]
    return rows.repeat_interleave(block, 1)[:, : shape[1]]


def weight_dequant(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """DeepSeek-V3's weight_dequant (inference/kernel.py): float32 of the code times its block's scale."""
    return weight.to(torch.float32) * spread(scale, weight.shape)


def cast(
    tensors: Tensors,
    dtype: torch.dtype = torch.bfloat16,
    change: Callable[[str, torch.Tensor], torch.Tensor] = lambda _, scale: scale,
    dequantise: Callable = weight_dequant,
) -> Tensors:
    """DeepSeek-V3's fp8_cast_bf16; `change` is what goes wrong with scales."""
    made: Tensors = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            continue
        scale = tensors.get(name + SCALE)
        made[name] = tensor if scale is None else dequantise(tensor, change(name, scale)).to(dtype)
    return made


def without_quantisation(config: dict) -> dict:
    return {key: value for key, value in config.items() if key != "quantization_config"}


# --- floats to FP8 ---


def amax_of(weight: torch.Tensor, block: int = BLOCK) -> torch.Tensor:
    """The largest |value| of each block."""
    rows, columns = weight.shape
    padded = torch.zeros(-(-rows // block) * block, -(-columns // block) * block)
    padded[:rows, :columns] = weight.float().abs()
    return padded.reshape(padded.shape[0] // block, block, -1, block).amax(dim=(1, 3))


def weight_quant(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """DeepSeek's formula: scale = max(amax, 1e-4) / 448, code = weight / scale."""
    scale = amax_of(weight).clamp(min=1e-4) / torch.tensor(448.0)
    return (weight.float() / spread(scale, weight.shape)).clamp(-448, 448).to(torch.float8_e4m3fn), scale


def weight_quant_ue8m0(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same with scales rounded up to powers of two."""
    scale = torch.exp2(torch.ceil(torch.log2(amax_of(weight).clamp(min=1e-4) / torch.tensor(448.0))))
    return (weight.float() / spread(scale, weight.shape)).clamp(-448, 448).to(torch.float8_e4m3fn), scale


def weight_quant_reciprocal(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """transformers' formula in float32: codes are multiplied by 448 / amax, whose reciprocal is stored."""
    factor = torch.tensor(448.0) / amax_of(weight)
    codes = (weight.float() * spread(factor, weight.shape)).clamp(-448, 448).to(torch.float8_e4m3fn)
    return codes, factor.reciprocal()


def quantised(tensors: Tensors, like: Tensors, quantise: Callable, scales: torch.dtype = torch.float32) -> Tensors:
    """Every weight that another checkpoint has in FP8, in FP8."""
    made: Tensors = {}
    for name, tensor in tensors.items():
        if name + SCALE not in like:
            made[name] = tensor
            continue
        made[name], scale = quantise(tensor)
        made[name + SCALE] = scale.to(scales)
    return made
