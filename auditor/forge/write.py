"""Writes a plan to a folder: shards, index and the files of the config; with holes for data where content is absent.

Either everything is written or, when writing fails, what was written is removed again.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import msgspec

from auditor.families.quantised import SIDECAR
from auditor.forge.plan import Plan, Shard, Tensor
from auditor.format.dtypes import Dtype
from auditor.format.entries import TensorHeader

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"

Strips = Callable[[Tensor], Iterator[bytes]]
Progress = Callable[[int, int], None]


def write(plan: Plan, directory: Path, *, strips: Strips | None, progress: Progress | None = None) -> None:
    """Write every file of the plan. `strips` yields a tensor's bytes; None leaves holes."""
    written: list[Path] = []
    try:
        for position, shard in enumerate((*plan.shards, *plan.strays)):
            if progress is not None:
                progress(min(position, len(plan.shards)), len(plan.shards))
            written.append(directory / shard.file)
            _write_shard(written[-1], shard, strips)
        if progress is not None:
            progress(len(plan.shards), len(plan.shards))
        for name, data in ((INDEX, index_bytes(plan)), (CONFIG, config_bytes(plan)), (SIDECAR, sidecar_bytes(plan))):
            if data is not None:
                written.append(directory / name)
                written[-1].write_bytes(data)
        for step in plan.afterwards:
            step(directory)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def header_bytes(shard: Shard) -> tuple[bytes, int]:
    """A shard's sound header, compact and in storage order, and the bytes of data it describes."""
    entries, position = spans(shard)
    document: dict[str, object] = {} if shard.metadata is None else {"__metadata__": shard.metadata}
    for tensor in shard.tensors:
        document[tensor.name] = TensorHeader(cast(Dtype, tensor.dtype), tensor.shape, entries[tensor.name])
    return msgspec.json.encode(document), position


def spans(shard: Shard) -> tuple[dict[str, tuple[int, int]], int]:
    """Each tensor's data_offsets, and where the last one ends."""
    entries: dict[str, tuple[int, int]] = {}
    position = 0
    for tensor in shard.tensors:
        begin = position + shard.gaps.get(tensor.name, 0)
        position = begin + tensor.size
        entries[tensor.name] = (begin, position)
    return entries, position


def index_bytes(plan: Plan) -> bytes | None:
    """model.safetensors.index.json, or None where there is none."""
    document = {"metadata": {"total_size": plan.counted_size()}, "weight_map": plan.weight_map()}
    data = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    return data if plan.edit_index is None else plan.edit_index(data)


def config_bytes(plan: Plan) -> bytes | None:
    """config.json, or None where there is none."""
    data = json.dumps(plan.config, indent=2).encode() + b"\n"
    return data if plan.edit_config is None else plan.edit_config(data)


def sidecar_bytes(plan: Plan) -> bytes | None:
    """hf_quant_config.json, or None where there is none."""
    return None if plan.sidecar is None else json.dumps(plan.sidecar, indent=2).encode() + b"\n"


def _write_shard(path: Path, shard: Shard, strips: Strips | None) -> None:
    with path.open("wb") as file:
        if shard.instead is not None:
            file.write(shard.instead)
            file.truncate(shard.size)
            return
        raw, payload = header_bytes(shard)
        if shard.edit is not None:
            raw = shard.edit(raw)
        length = len(raw) if shard.declared is None else shard.declared
        file.write(length.to_bytes(8, "little") + raw)
        begin = file.tell()
        if strips is not None:
            places = spans(shard)[0]
            for tensor in shard.tensors:
                file.seek(begin + places[tensor.name][0])
                for strip in strips(tensor):
                    file.write(strip)
        # A hole reads as zeros and takes no space.
        file.truncate(begin + payload + shard.excess)
