"""Storage and parallelism: sums that agree with the inventory, scales apart from their weights, bytes of a rank."""

import json

import pytest

from auditor import audit
from auditor.comparison.parallel import expert_parallelism, parallelism, pipeline_parallelism
from auditor.families import family_named
from auditor.forge import forge
from auditor_schemas.config import DeepseekV3Config

PAYLOAD = 688_574_839_360
GIB = 1 << 30


@pytest.fixture(scope="module")
def released():
    """The released config, and what it implies."""
    with open("tests/data/config.deepseek-v3.json") as file:
        config = DeepseekV3Config.model_validate(json.load(file))
    return config, family_named("deepseek-v3").expectations(config)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("v3") / "checkpoint"
    forge(folder, like="v3", sparse=True)
    return audit(folder)


def test_bytes_by_component_add_up_to_the_payload(report):
    assert sum(each.bytes for each in report.storage.components) == PAYLOAD == report.inventory.payload_bytes
    assert sum(each.tensors for each in report.storage.components) == report.inventory.tensors
    routed = {each.dtype: each for each in report.storage.components if each.component == "routed_experts"}
    assert routed["F8_E4M3"].bytes == 653_908_770_816
    assert routed["F32"].tensors == routed["F8_E4M3"].tensors == 58 * 256 * 3


def test_shards_in_sums_add_up_to_the_files(report):
    assert len(report.storage.shards) == 163
    assert sum(each.bytes for each in report.storage.shards) == report.inventory.file_bytes
    assert sum(each.tensors for each in report.storage.shards) == report.inventory.tensors


def test_weights_apart_from_their_scales_are_those_that_a_walk_of_the_index_finds(report, tmp_path):
    forge(tmp_path / "checkpoint", like="v3", sparse=True)
    index = json.loads((tmp_path / "checkpoint" / "model.safetensors.index.json").read_text())["weight_map"]
    apart = {name for name in index if index.get(f"{name}_scale_inv", index[name]) != index[name]}
    assert sum(each.count for each in report.storage.distant_scales) == len(apart) > 0
    first = report.storage.distant_scales[0]
    assert index[first.weights[0]] == first.weight_file
    assert index[f"{first.weights[0]}_scale_inv"] == first.scale_file


def test_tensors_that_the_config_does_not_imply_are_of_no_known_component(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name="unexpected-tensors")
    report = audit(tmp_path / "checkpoint")
    unexpected = next(each for each in report.findings if each.slug == "unexpected-tensor")
    stored = [each.tensors for each in report.storage.components if each.component == "unclassified"]
    assert stored == [unexpected.count]


def test_a_checkpoint_without_a_config_still_says_where_its_bytes_are(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name="missing-config")
    report = audit(tmp_path / "checkpoint")
    assert sum(each.bytes for each in report.storage.components) == report.inventory.payload_bytes
    assert report.parallelism == report.expert_parallelism == report.pipeline_parallelism == ()


def test_tensor_parallel_sizes_up_to_16_are_clean_and_32_is_not(released):
    by_size = {each.tensor_parallel: each for each in parallelism(*released)}
    assert [size for size, each in by_size.items() if each.clean] == [1, 2, 4, 8, 16]
    assert {(each.size, each.partition) for each in by_size[32].uneven} == {(18432, 576.0), (2048, 64.0)}
    assert {each.pattern: each.partition for each in by_size[32].even} == {
        "self_attn.q_b_proj.weight": 768,
        "self_attn.kv_b_proj.weight": 1024,
        "self_attn.o_proj.weight": 512,
    }
    for each in by_size.values():
        assert len(each.even) + len(each.uneven) == 12


def test_a_rank_holds_its_partitions_and_everything_that_is_replicated(released):
    sizes = {each.tensor_parallel: each.bytes_per_rank for each in parallelism(*released)}
    assert sizes[1] == PAYLOAD
    replicated = 2 * sizes[2] - PAYLOAD
    assert {size: size * held - (size - 1) * replicated for size, held in sizes.items() if size < 32} == dict.fromkeys(
        (1, 2, 4, 8, 16), PAYLOAD
    )
    # Partitions of half a block share that block's scale with a neighbour, so both must hold it.
    assert sizes[32] * 32 - 31 * replicated > PAYLOAD


def test_experts_divide_among_ranks_and_all_else_is_replicated(released):
    tables = {each.expert_parallel: each for each in expert_parallelism(*released)}
    assert list(tables) == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert tables[1].bytes_per_rank == PAYLOAD
    assert (tables[256].fewest, tables[256].most) == (1, 1)
    one_expert = 59 * 3 * (7168 * 2048 + 4 * 56 * 16)
    assert tables[128].bytes_per_rank - tables[256].bytes_per_rank == one_expert


def test_layers_divide_into_stages_that_hold_everything_once(released):
    for table in pipeline_parallelism(*released):
        assert len(table.stages) == table.pipeline_parallel
        assert sum(stage.bytes for stage in table.stages) == PAYLOAD
        assert table.stages[0].layers[0] == 0
        assert table.stages[-1].layers[1] == 62
        assert all(a.layers[1] == b.layers[0] for a, b in zip(table.stages, table.stages[1:], strict=False))
