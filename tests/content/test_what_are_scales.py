"""Block scales are judged as scales by what they are paired with: of whatever size, shape, dtype, shard and company."""

import json
from pathlib import Path

import numpy as np
import pytest

from auditor import audit
from auditor.content import Reading
from auditor.content.formats import Blocks
from auditor.content.probes import Probes
from auditor.content.read import read_content
from auditor.forge import forge, plan_of
from auditor.forge.breaks import breaks
from auditor.forge.content import Content
from auditor.forge.write import write
from auditor.inventory.walk import walk
from auditor.sources import open_source
from auditor_schemas.policy import DEFAULT_LIMITS

SCALE = "model.layers.2.mlp.experts.1.up_proj.weight_scale_inv"


def shard(path: Path, *tensors: tuple[str, str, tuple[int, ...], bytes]) -> None:
    """A shard of (name, dtype, shape, bytes)."""
    header, position = {}, 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + len(data)]}
        position += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data for *_, data in tensors))


def probes(folder: Path, blocks: Blocks | None = None, **reading: object) -> Probes:
    source = open_source(str(folder))
    choice = Reading(**{"depth": "full", "seed": 1} | reading)
    return read_content(source, walk(source, DEFAULT_LIMITS), blocks, choice, mtp_layers=()).probes


@pytest.mark.parametrize("shape", [(1200, 1000), (1_200_000,), (1_200_000, 1), (1, 1_200_000), (100, 12, 1000)])
def test_a_grid_of_any_size_and_shape_is_judged_as_scales(tmp_path: Path, shape: tuple[int, ...]) -> None:
    scales = np.full(1_200_000, 1e-4, np.float32)
    scales[::3] = -1e-4
    scales[7] = 0
    shard(tmp_path / "model.safetensors", (SCALE, "F32", shape, scales.tobytes()))
    found = probes(tmp_path).tensors[SCALE].scales
    assert found is not None
    assert (found.values, found.negative, found.zero) == (1_200_000, 400_000, 1)
    assert found.first["zero"].element == 7


@pytest.mark.parametrize(
    ("dtype", "data"),
    [("BF16", np.uint16(0xBF80)), ("F16", np.float16(-1)), ("F64", np.float64(-1)), ("F8_E8M0", np.uint8(0xFF))],
)
def test_scales_of_other_dtypes_are_judged_as_scales(tmp_path: Path, dtype: str, data: np.generic) -> None:
    shard(tmp_path / "model.safetensors", (SCALE, dtype, (2, 3), np.full(6, data).tobytes()))
    found = probes(tmp_path).tensors[SCALE].scales
    assert found is not None
    assert found.nan + found.negative == 6
    assert next(iter(found.first.values())).end - next(iter(found.first.values())).begin == data.nbytes


def test_scales_of_which_a_sample_reads_strips_are_judged_as_far_as_they_were_read(tmp_path: Path) -> None:
    scales = np.full((1000, 100), -1e-4, np.float32)
    shard(tmp_path / "model.safetensors", (SCALE, "F32", scales.shape, scales.tobytes()))
    read = probes(tmp_path, depth="sample", sample_bytes=200_000).tensors[SCALE]
    assert read.scales is not None
    assert 0 < read.scales.negative == read.scales.values == read.read < 100_000


@pytest.mark.parametrize("dtype", ["BF16", "F8_E8M0"])
def test_blocks_are_judged_beside_scales_of_another_dtype(tmp_path: Path, dtype: str) -> None:
    """Another rule says that the dtype is not the format's; what the blocks hold is told all the same."""
    plan = plan_of("tiny")
    plan.powers_of_two = True
    plan.alter(lambda name: name.endswith("_scale_inv"), dtype=dtype)
    write(plan, tmp_path, strips=Content(plan, 0).strips)
    seen = probes(tmp_path, Blocks((128, 128), powers_of_two=True))
    assert sum(values.blocks.exact for values in seen.weights if values.blocks) > 500
    assert not sum(values.blocks.foreign for values in seen.weights if values.blocks)


def test_a_third_of_a_large_grid_negative_fails_at_depth_full(tmp_path: Path) -> None:
    """Blocks of 1 × 1 make grids as large as their weights."""
    plan = plan_of("tiny")
    plan.config["quantization_config"]["weight_block_size"] = [1, 1]
    plan.block = (1, 1)
    weights = {tensor.name: tensor.shape for tensor in plan.tensors() if tensor.values == "codes"}
    for name, shape in weights.items():
        plan.alter(f"{name}_scale_inv".__eq__, shape=shape)
    plan.edit(SCALE.__eq__, lambda scales: np.where(np.arange(scales.size).reshape(scales.shape) % 3, scales, -scales))
    write(plan, tmp_path, strips=Content(plan, 0).strips)
    report = audit(tmp_path, depth="full")
    roots = {each.rule for each in report.findings if each.caused_by is None and each.severity == "error"}
    assert (report.verdict, roots) == ("failed", {"VAL105"})


@pytest.mark.parametrize("name", ["stale-mtp-embedding", "stale-mtp-head"])
@pytest.mark.parametrize("digests", [True, False])
def test_a_copy_that_differs_is_found_with_and_without_digests(tmp_path: Path, name: str, digests: bool) -> None:
    folder = forge(tmp_path / "x", break_name=name).directory
    report = audit(folder, depth="full", reading=Reading(depth="full", digests=digests))
    assert (report.verdict, [each.rule for each in report.findings if each.severity == "error"]) == (
        "failed",
        [breaks()[name].rule],
    )


def test_without_digests_rules_that_compare_all_of_them_say_that_they_could_not(tmp_path: Path) -> None:
    folder = forge(tmp_path / "x").directory
    report = audit(folder, depth="full", reading=Reading(depth="full", digests=False))
    outcomes = {each.rule: (each.outcome, each.reason, each.examined) for each in report.outcomes}
    assert outcomes["VAL113"] == ("passed", None, 2)
    assert outcomes["VAL114"] == outcomes["VAL115"] == ("not_applicable", "no digests were made", 0)
    assert report.content_digest is None
