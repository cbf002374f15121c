"""The reading of one shard: the same facts whatever is read at once, each byte once, and never half a file."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.content.cpu import CpuDevice
from auditor.content.formats import Blocks, Formats
from auditor.content.plan import ShardPlan, whole_shards
from auditor.content.shard import ShardReader
from auditor.content.values import ShardValues
from auditor.errors import ReadError
from auditor.inventory.walk import walk
from auditor.sources import Source, open_source
from auditor_schemas.policy import DEFAULT_LIMITS

BLOCK = 32
BLOCKS = Blocks((BLOCK, BLOCK), powers_of_two=False)
STRIP = 4096  # bytes: a row of blocks of 128 columns
WEIGHT, SCALE = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight_scale_inv"


def stored(folder: Path, weight: np.ndarray, scale: np.ndarray) -> ShardPlan:
    """One shard of one weight (R × C codes) and its scales; what there is to read of it."""
    header = {
        SCALE: {"dtype": "F32", "shape": scale.shape, "data_offsets": [0, scale.nbytes]},
        WEIGHT: {
            "dtype": "F8_E4M3",
            "shape": weight.shape,
            "data_offsets": [scale.nbytes, scale.nbytes + weight.nbytes],
        },
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = folder / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + scale.tobytes() + weight.tobytes())
    (plan,) = whole_shards(walk(open_source(str(folder)), DEFAULT_LIMITS), Formats(BLOCKS))
    assert [part.scale is not None for part in plan.parts] == [False, True]
    return plan


def read(
    source: Source, plan: ShardPlan, device: CpuDevice, tick: Callable[[int], None] = lambda count: None
) -> ShardValues:
    return ShardReader(source, device, digests=False, tick=tick).read(plan)


def codes(rows: int, columns: int, seed: int) -> np.ndarray:
    """Codes that are finite, of both signs, and never ±0."""
    random = np.random.default_rng(seed)
    magnitude = random.integers(1, 0x7F, (rows, columns), dtype=np.uint8)
    magnitude[::BLOCK, ::BLOCK] = 0x7E
    return magnitude | (random.integers(0, 2, (rows, columns), dtype=np.uint8) << 7)


def scales(rows: int, columns: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    grid = (-(-rows // BLOCK), -(-columns // BLOCK))
    return (random.lognormal(-8, 1, grid) / 448).astype(np.float32)


# What a strip may hold that is looked at again, or goes into sums.
ODD = {
    "nothing": lambda strip: None,
    "NaN": lambda strip: strip.__setitem__((0, 5), 0x7F),
    "negative NaN": lambda strip: strip.__setitem__((-1, 6), 0xFF),
    "no negative code": lambda strip: np.bitwise_and(strip, 0x7F, out=strip),
    "no positive code": lambda strip: np.bitwise_or(strip, 0x80, out=strip),
    "all zero": lambda strip: strip.fill(0),
    "all negative zero": lambda strip: strip.fill(0x80),
    "one code": lambda strip: strip.fill(0x31),
    "zeros inside": lambda strip: strip[0, :9].fill(0),
    "zeros at the end": lambda strip: strip[-1, -7:].fill(0),
    "a negative zero at the end": lambda strip: strip[-1, -1:].fill(0x80),
    "not saturated": lambda strip: np.minimum(strip, 0xF0, out=strip),
}


@settings(max_examples=150)
@given(
    rows=st.integers(1, 9 * BLOCK),
    columns=st.sampled_from([128, 128, 256, 4096, 100]),
    odd=st.dictionaries(st.integers(0, 8), st.sampled_from(sorted(ODD))),
    odd_scales=st.dictionaries(st.integers(0, 30), st.sampled_from([0.0, -1.0, np.inf, np.nan, 1e-40, 2.0**-22, 3e38])),
    slab=st.sampled_from([STRIP, 3 * STRIP, 100]),
    seed=st.integers(0, 99),
)
def test_the_facts_are_the_same_however_much_is_read_at_once(
    tmp_path_factory, rows, columns, odd, odd_scales, slab, seed
):
    weight, scale = codes(rows, columns, seed), scales(rows, columns, seed)
    for block_row, kind in odd.items():
        strip = weight[block_row * BLOCK : (block_row + 1) * BLOCK]
        if strip.size:
            ODD[kind](strip)
    for place, value in odd_scales.items():
        scale.flat[place % scale.size] = value
    folder = tmp_path_factory.mktemp("shard")
    plan, source = stored(folder, weight, scale), open_source(str(folder))
    assert read(source, plan, CpuDevice(slab)) == read(source, plan, CpuDevice(1 << 20))


def test_each_byte_is_counted_once(tmp_path):
    weight, scale = codes(8 * BLOCK, 128, 2), scales(8 * BLOCK, 128, 2)
    weight[5 * BLOCK, 0] = 0xFF
    plan, counts = stored(tmp_path, weight, scale), []
    read(open_source(str(tmp_path)), plan, CpuDevice(STRIP), counts.append)
    assert sum(counts) == weight.nbytes + scale.nbytes


def test_what_is_not_in_memory_is_read_as_well(tmp_path):
    weight, scale = codes(8 * BLOCK, 128, 3), scales(8 * BLOCK, 128, 3)
    plan, source = stored(tmp_path, weight, scale), open_source(str(tmp_path))
    expected = read(source, plan, CpuDevice(STRIP))
    descriptor = os.open(tmp_path / "model.safetensors", os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        assert read(source, plan, CpuDevice(STRIP)) == expected
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("left", [0, 1, STRIP, 3 * STRIP + 100])
def test_a_file_cut_short_while_it_is_read_is_a_read_error_that_names_the_byte(tmp_path, left):
    weight, scale = codes(8 * BLOCK, 128, 4), scales(8 * BLOCK, 128, 4)
    plan, source = stored(tmp_path, weight, scale), open_source(str(tmp_path))
    part = plan.parts[1]

    def cut(count: int) -> None:  # once the scales have been read
        if count == scale.nbytes:
            os.truncate(tmp_path / "model.safetensors", part.begin + left)

    with pytest.raises(ReadError, match=f"ended at byte {part.begin + left:,} while it was read"):
        read(source, plan, CpuDevice(STRIP), cut)


def test_a_device_serves_one_weight_after_the_other(tmp_path):
    found = []
    device = CpuDevice(STRIP)
    for seed in (5, 6):
        folder = tmp_path / str(seed)
        folder.mkdir()
        plan, source = (
            stored(folder, codes(4 * BLOCK, 128, seed), scales(4 * BLOCK, 128, seed)),
            open_source(str(folder)),
        )
        found.append((read(source, plan, device), read(source, plan, CpuDevice(STRIP))))
    assert [shared == own for shared, own in found] == [True, True]
    assert found[0][0].tensors != found[1][0].tensors
