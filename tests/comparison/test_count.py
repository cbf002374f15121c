"""Counts are exact: the published figures of the release, by the convention each was published with."""

import json
from math import prod
from pathlib import Path

import pytest
from hypothesis import given

from auditor.comparison.count import CONVENTIONS, conventions, figures, tally
from auditor.comparison.match import take_census
from auditor.comparison.records import Tally
from auditor.families import family_for
from auditor.format.dtypes import packed_bytes
from auditor.format.entries import Shard, TensorHeader
from auditor.inventory.facts import Inventory
from tests.families.test_families import configs, expand, inventory_of

DATA = Path(__file__).parents[1] / "data"
V3 = json.loads((DATA / "config.deepseek-v3.json").read_text())
V32 = json.loads((DATA / "config.deepseek-v3.2.json").read_text())


def laid_out(tensors: dict[str, tuple[tuple[int, ...], str]], path: str = "model.safetensors") -> Shard:
    """A shard that holds the tensors one behind the other."""
    position, headers = 0, {}
    for name, (shape, dtype) in tensors.items():
        end = position + packed_bytes(dtype, prod(shape))
        headers[name] = TensorHeader(dtype, shape, (position, end))
        position = end
    return Shard(path, 10 + position, "read", header_bytes=2, tensors=headers)


def published(name: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Every tensor of a release, from its published header dump."""
    return {each: (shape, dtype) for pattern, shape, dtype in inventory_of(name) for each in expand(pattern)}


def counted(fields: dict, *shards: Shard) -> Tally:
    inventory, (_, expectations) = Inventory(shards), layout(fields)
    return tally(inventory, expectations, take_census(inventory, expectations))


def layout(fields: dict):
    family = family_for(fields["model_type"])
    config = family.config.model_validate(fields)
    return config, family.expectations(config)


def both(fields: dict, found: Tally) -> tuple[dict[str, int], dict[str, int]]:
    """Every convention, from the config's side and from the headers'."""
    config, _ = layout(fields)
    from_config = {name: counts[0] for name, counts in found.components.items()}
    from_headers = {name: counts[1] for name, counts in found.components.items()}
    return (
        conventions(from_config, found.expected_scale_elements, config),
        conventions(from_headers, found.scale_elements, config),
    )


@pytest.fixture(scope="module")
def v3_shard() -> Shard:
    return laid_out(published("deepseek-v3"))


# README_WEIGHTS.md of the DeepSeek-V3 release, each figure with the exact count it rounds or contradicts.
EXACT = {
    "main_total": 671_026_419_200,  # "671B"
    "main_activated": 37_552_297_472,  # "36.7B, including 0.9B for Embedding and 0.9B for the output Head": it is 37.6
    "main_activated_without_embedding": 36_625_618_432,  # "36.6B, including 0.9B for the output head", in a variant
    "mtp_unique": 11_507_286_272,  # "11.5B unique parameters, excluding the shared 0.9B Embedding and 0.9B output Head"
    "mtp_unique_with_projection": 11_610_068_224,
    "mtp_activated": 2_438_676_736,  # "2.4B (including the shared 0.9B Embedding and 0.9B output Head)"
    "mtp_activated_with_projection": 2_541_458_688,
    "stored": 684_489_845_504,  # "685B" on the hub
    "stored_with_scales": 684_531_386_000,
}


def test_the_release_has_its_published_parameter_counts_by_every_convention(v3_shard):
    from_config, from_headers = both(V3, counted(V3, v3_shard))
    assert from_config == EXACT
    assert from_headers == EXACT
    assert EXACT.keys() == CONVENTIONS.keys()


def test_the_release_has_its_elements_by_dtype(v3_shard):
    # The hub's own dtype totals for DeepSeek-V3.
    census = take_census(Inventory((v3_shard,)), None)
    assert census.by_dtype == {"BF16": 3_918_786_560, "F32": 41_555_600, "F8_E4M3": 680_571_043_840}
    assert census.elements == 684_531_386_000
    # metadata.total_size of the official index: twice the element count, not the payload.
    assert 2 * census.elements == 1_369_062_772_000


def test_the_release_has_its_payload_and_scale_values(v3_shard):
    inventory = Inventory((v3_shard,))
    assert inventory.payload_bytes == 688_574_839_360
    assert inventory.stored == 91_991
    found = counted(V3, v3_shard)
    assert found.scale_elements == found.expected_scale_elements == 41_540_496
    assert found.unclassified_elements == 0


def test_the_projection_of_the_mtp_module_is_counted_apart(v3_shard):
    components = counted(V3, v3_shard).components
    assert components["mtp_projection"] == (102_760_448, 102_760_448)
    assert components["mtp_norms"] == (3 * 7168, 3 * 7168)
    assert components["mtp_embedding"] == components["mtp_head"] == components["embedding"] == (129_280 * 7168,) * 2
    assert components["router_bias"] == (58 * 256,) * 2
    assert components["mtp_router_bias"] == (256, 256)


def test_v32_adds_its_indexer_to_main_model_and_mtp_module():
    found = counted(V32, laid_out(published("deepseek-v3.2")))
    per_layer = 8192 * 1536 + 128 * 7168 + 64 * 7168 + 2 * 128
    assert found.components["indexer"] == (61 * per_layer,) * 2
    assert found.components["mtp_indexer"] == (per_layer,) * 2
    from_config, from_headers = both(V32, found)
    assert from_config == from_headers
    assert from_config["main_total"] == EXACT["main_total"] + 61 * per_layer


# --- published figures


def figures_of(fields: dict, counts: dict[str, int] = EXACT):
    config, _ = layout(fields)
    return figures(config, family_for(fields["model_type"]), counts)


def test_each_published_figure_has_its_verdict_and_deviation():
    found = {
        figure.published: (figure.verdict, [(c.parameters, c.deviation_percent) for c in figure.counts])
        for figure in figures_of(V3)
    }
    assert found == {
        "671B": ("matches_rounded", [(671_026_419_200, 0.004)]),
        "36.7B": ("contradicted", [(37_552_297_472, 2.322), (36_625_618_432, -0.203)]),
        "11.5B": ("matches_rounded", [(11_507_286_272, 0.063), (11_610_068_224, 0.957)]),
        "2.4B": ("matches_rounded", [(2_438_676_736, 1.612), (2_541_458_688, 5.894)]),
        "685B": ("matches_rounded", [(684_531_386_000, -0.068), (684_489_845_504, -0.074)]),
    }


def test_a_count_is_never_shown_without_its_convention():
    for figure in figures_of(V3):
        assert figure.source
        assert all(each.convention in CONVENTIONS.values() for each in figure.counts)


def test_the_contradicted_figure_says_how_text_and_number_disagree():
    note = next(figure.note for figure in figures_of(V3) if figure.published == "36.7B")
    assert "no convention gives 36.7B" in note


def test_another_count_contradicts_the_published_figure():
    damaged = {**EXACT, "main_total": 670_499_999_999}
    assert next(f for f in figures_of(V3, damaged) if f.published == "671B").verdict == "contradicted"
    assert next(f for f in figures_of(V3, {**EXACT, "main_total": 670_500_000_000})).verdict == "matches_rounded"
    assert next(f for f in figures_of(V3, {**EXACT, "main_total": 671_000_000_000})).verdict == "exact"


@pytest.mark.parametrize("change", [{"vocab_size": 129_281}, {"n_shared_experts": 2}, {"num_nextn_predict_layers": 2}])
def test_published_figures_apply_to_the_released_config_alone(change):
    found = figures_of({**V3, **change})
    assert {figure.verdict for figure in found} == {"not_applicable"}
    assert all(figure.published is None and figure.source is None for figure in found)
    assert all(each.deviation_percent is None for figure in found for each in figure.counts)


def test_fields_that_decide_no_count_leave_the_published_figures_applicable():
    assert figures_of({**V3, "rope_theta": 1, "torch_dtype": "float16"})[0].published == "671B"
    assert figures_of({**V3, "quantization_config": None})[0].published == "671B"


def test_without_mtp_modules_no_figure_speaks_of_them():
    assert not any("MTP" in figure.name for figure in figures_of({**V3, "num_nextn_predict_layers": 0}))
    assert {figure.verdict for figure in figures_of(V32)} == {"not_applicable"}


# --- what the headers lack or have


@pytest.mark.parametrize(("layer", "component"), [(10, "routed_experts"), (61, "mtp_routed_experts")])
def test_a_lost_expert_changes_the_headers_count_by_exactly_its_elements(v3_shard, layer, component):
    prefix = f"model.layers.{layer}.mlp.experts.7."
    kept = {name: header for name, header in v3_shard.tensors.items() if not name.startswith(prefix)}
    assert len(v3_shard.tensors) - len(kept) == 6
    whole = counted(V3, v3_shard)
    found = counted(V3, Shard("model.safetensors", 0, "read", tensors=kept))
    expected, actual = found.components[component]
    assert expected - actual == 3 * 2048 * 7168
    assert whole.scale_elements - found.scale_elements == 3 * 16 * 56
    assert {n: c for n, c in found.components.items() if n != component} == {
        n: c for n, c in whole.components.items() if n != component
    }


def test_a_misshapen_tensor_counts_with_the_shape_it_has(v3_shard):
    name = "model.layers.0.self_attn.q_a_proj.weight"
    tensors = {**v3_shard.tensors, name: TensorHeader("F8_E4M3", (1, 7168), (0, 7168))}
    expected, actual = counted(V3, Shard("model.safetensors", 0, "read", tensors=tensors)).components["attention"]
    assert expected - actual == 1535 * 7168


TINY = {
    "model_type": "deepseek_v3", "vocab_size": 10, "hidden_size": 4, "num_hidden_layers": 2,
    "num_nextn_predict_layers": 1, "num_attention_heads": 1, "q_lora_rank": None, "kv_lora_rank": 2,
    "qk_nope_head_dim": 2, "qk_rope_head_dim": 2, "v_head_dim": 3, "intermediate_size": 5,
    "moe_intermediate_size": 3, "first_k_dense_replace": 1, "n_routed_experts": 4, "n_shared_experts": 1,
    "num_experts_per_tok": 2,
}  # fmt: skip


def whole(fields: dict) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (row.shape, row.dtype) for name, row in layout(fields)[1].names.items()}


def test_a_tiny_model_is_counted_by_hand():
    attention = 4 * 4 + 4 * 4 + 2 + 5 * 2 + 4 * 3  # q, kv_a, its norm, kv_b, o
    expert, block_norms = 3 * 3 * 4, 2 * 4
    router = 4 * 4 + 4
    dense = 3 * 5 * 4
    main = 40 + 40 + 4 + 2 * (attention + block_norms) + dense + router + 4 * expert + expert
    block = attention - 2 + 2 + block_norms + router + 4 * expert + expert
    extras = 4 * 8 + 3 * 4
    from_config, from_headers = both(TINY, counted(TINY, laid_out(whole(TINY))))
    assert from_config == from_headers
    assert from_config == {
        "main_total": main,
        "main_activated": main - 2 * expert,
        "main_activated_without_embedding": main - 2 * expert - 40,
        "mtp_unique": block,
        "mtp_unique_with_projection": block + extras,
        "mtp_activated": block - 2 * expert + 80,
        "mtp_activated_with_projection": block - 2 * expert + extras + 80,
        "stored": main + block + extras + 80,
        "stored_with_scales": main + block + extras + 80,
    }


def test_a_tensor_in_two_shards_is_stored_twice():
    tensors = whole(TINY)
    copy = laid_out({"lm_head.weight": tensors["lm_head.weight"]}, "copy.safetensors")
    assert counted(TINY, laid_out(tensors), copy).components["head"] == (40, 80)


def test_a_stray_file_counts_for_nothing():
    tensors = whole(TINY)
    stray = Shard(
        "stray.safetensors", 0, "read", tensors={"lm_head.weight": TensorHeader("BF16", (10, 4), (0, 80))}, stray=True
    )
    assert counted(TINY, laid_out(tensors), stray) == counted(TINY, laid_out(tensors))


def test_an_unexpected_tensor_is_unclassified():
    found = counted(TINY, laid_out({**whole(TINY), "extra.weight": ((3, 5), "F32")}))
    assert found.unclassified_elements == 15


def test_without_expectations_everything_is_unclassified():
    inventory = Inventory((laid_out({"a": ((2, 3), "F32"), "b": ((4,), "U8")}),))
    assert tally(inventory, None, take_census(inventory, None)) == Tally({}, 0, 10)


@given(configs())
def test_any_config_is_counted_alike_from_config_and_headers_and_misses_nothing(fields):
    tensors = whole(fields)
    found = counted(fields, laid_out(tensors))
    assert all(expected == actual for expected, actual in found.components.values())
    assert found.scale_elements == found.expected_scale_elements
    assert found.unclassified_elements == 0
    from_config, _ = both(fields, found)
    scales = {name for name in tensors if name.endswith("_scale_inv")}
    assert from_config["stored"] == sum(prod(shape) for name, (shape, _) in tensors.items() if name not in scales)
    assert from_config["stored_with_scales"] == sum(prod(shape) for shape, _ in tensors.values())
    assert from_config["main_activated"] <= from_config["main_total"] <= from_config["stored"]
    copies = sum(found.components.get(name, (0, 0))[0] for name in ("mtp_embedding", "mtp_head"))
    assert from_config["main_total"] + from_config["mtp_unique_with_projection"] + copies == from_config["stored"]
