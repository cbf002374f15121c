"""The tensors of GLM-5 follow from its config, of every release as published and of any other by its rules."""

from typing import Any

import pytest

from tests.families.tables import (
    behind_layers,
    changed,
    config_of,
    configured,
    expected,
    faults,
    kinds,
    table_of,
    totals,
)

# Sources: a header dump of 5.1 and one of 5.2-FP8, by tensors, stored elements and payload bytes.
RELEASES = {
    "glm-5.1": (59_870, 753_864_139_008, 1_507_728_316_928),
    "glm-5.2-fp8": (118_629, 753_375_793_584, 755_617_140_416),
}
CONFIGS = ["glm-5-fp8", "glm-5.1-fp8", "glm-5.1", "glm-5.2-fp8", "glm-5.2"]
INDEXER = {
    "self_attn.indexer.wq_b.weight", "self_attn.indexer.wk.weight", "self_attn.indexer.k_norm.weight",
    "self_attn.indexer.k_norm.bias", "self_attn.indexer.weights_proj.weight",
}  # fmt: skip

SMALL: dict[str, Any] = {
    "model_type": "glm_moe_dsa", "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 5,
    "num_nextn_predict_layers": 1, "num_attention_heads": 2, "q_lora_rank": 24, "kv_lora_rank": 16,
    "qk_nope_head_dim": 12, "qk_rope_head_dim": 4, "v_head_dim": 8, "head_dim": 99, "intermediate_size": 48,
    "moe_intermediate_size": 16, "first_k_dense_replace": 1, "n_routed_experts": 4, "n_shared_experts": 1,
    "num_experts_per_tok": 2, "index_n_heads": 2, "index_head_dim": 8, "dtype": "bfloat16",
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 16]},
}  # fmt: skip
SHARED = {"indexer_types": ["full", "shared", "shared", "full", "shared"]}


def indexed(fields: dict[str, Any]) -> set[int]:
    """The layers that have an indexer."""
    return {int(name.split(".")[2]) for name in kinds(fields) if ".indexer." in name}


# --- the releases


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_has_its_tensors_elements_and_bytes(name):
    assert totals(kinds(config_of(name))) == RELEASES[name]


def test_a_release_is_derived_tensor_by_tensor():
    assert kinds(config_of("glm-5.2-fp8")) == table_of("glm-5.2-fp8")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_released_config_is_sound_and_its_exemptions_exempt_nothing_that_is_quantised(name):
    fields = config_of(name)
    found = configured(fields)
    assert (found.faults, found.unsupported, found.foreign) == ((), None, None)
    if quantization := fields.get("quantization_config"):
        assert len(quantization["modules_to_not_convert"]) in (541, 712)
        bare = {**fields, "quantization_config": {**quantization, "modules_to_not_convert": []}}
        assert kinds(bare) == kinds(fields)


def test_the_releases_that_share_indexers_lack_those_of_57_layers():
    gone = kinds(config_of("glm-5.1")).keys() - kinds(config_of("glm-5.2")).keys()
    assert len(gone) == 57 * 5
    assert behind_layers(gone) == INDEXER
    assert indexed(config_of("glm-5.2")) == {0, 1, *range(2, 75, 4), 78}


def test_the_fp8_releases_have_the_names_of_the_bf16_ones_and_scales():
    for plain, quantised in (("glm-5.1", "glm-5.1-fp8"), ("glm-5.2", "glm-5.2-fp8")):
        more = kinds(config_of(quantised)).keys() - kinds(config_of(plain)).keys()
        assert {name.rpartition(".")[2] for name in more} == {"weight_scale_inv"}


# --- rules


def test_each_layer_has_an_indexer_where_nothing_says_otherwise_and_so_has_the_mtp_module():
    assert indexed(SMALL) == {0, 1, 2, 3, 4, 5}
    assert indexed({**SMALL, **SHARED}) == {0, 3, 5}
    gone, come = changed(SMALL, **SHARED)
    assert (behind_layers(gone), come) == (
        INDEXER | {f"self_attn.indexer.{n}.weight_scale_inv" for n in ("wq_b", "wk")},
        {},
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"index_topk_pattern": "FSSFS"},
        {"index_topk_pattern": ["full", "shared", "shared", "full", "shared"]},
        {"index_topk_freq": 3, "index_skip_topk_offset": 1},
        {**SHARED, "index_topk_pattern": "FFFFF", "index_topk_freq": 5},
    ],
)
def test_a_schedule_of_indexers_has_other_spellings_and_the_list_comes_first(fields):
    assert indexed({**SMALL, **fields}) == {0, 3, 5}


def test_the_releases_frequency_and_offset_say_what_their_list_says():
    fields = config_of("glm-5.2")
    del fields["indexer_types"]
    assert kinds(fields) == kinds(config_of("glm-5.2"))


def test_a_list_needs_an_entry_for_each_layer():
    assert faults({**SMALL, "indexer_types": ["full"] * 6}) == [("contradictory-config", "indexer_types")]
    assert faults({**SMALL, "index_topk_pattern": "FS"}) == [("contradictory-config", "index_topk_pattern")]
    assert faults({**SMALL, "indexer_types": ["half"] * 5}) == [("invalid-config-field", "indexer_types.0")]
    assert faults({**SMALL, "mlp_layer_types": ["sparse"]}) == [("contradictory-config", "mlp_layer_types")]


def test_a_list_of_mlps_says_what_the_number_of_dense_layers_says():
    types = ["dense", "sparse", "sparse", "sparse", "sparse"]
    assert faults({**SMALL, "mlp_layer_types": types}) == []
    assert faults({**SMALL, "mlp_layer_types": ["dense", *types[:-1]]}) == [
        ("contradictory-config", "mlp_layer_types.1")
    ]
    fields = config_of("glm-5.2")
    assert faults({**fields, "first_k_dense_replace": 2}) == [("contradictory-config", "mlp_layer_types.2")]


def test_the_mtp_module_has_no_copies_of_the_vocabulary():
    expectations = expected(SMALL)
    assert expectations.mtp_layers == (5,)
    own = {name for name in expectations.names if name.startswith("model.layers.5.")}
    assert {name for name in own if name.replace(".5.", ".4.") not in expectations.names} == {
        f"model.layers.5.{end}.weight" for end in ("eh_proj", "enorm", "hnorm", "shared_head.norm")
    }
    assert not any(row.optional for row in expectations.names.values())


def test_norms_are_of_the_models_dtype_and_what_newer_writers_keep_may_be_float32():
    rows = expected(SMALL).names
    assert {row.dtype for name, row in rows.items() if row.role == "norm"} == {"BF16"}
    wider = behind_layers({name for name, row in rows.items() if "F32" in row.allowed})
    assert wider == {
        "mlp.gate.weight", "self_attn.indexer.weights_proj.weight", "self_attn.indexer.k_norm.weight",
        "self_attn.indexer.k_norm.bias",
    }  # fmt: skip


def test_a_wider_model_changes_what_reads_and_writes_the_residual_stream():
    gone, come = changed(SMALL, hidden_size=64)
    assert gone.keys() == come.keys()
    assert come["model.layers.0.self_attn.indexer.wk.weight"] == ((8, 64), "F8_E4M3")
    assert come["model.layers.0.self_attn.indexer.wk.weight_scale_inv"] == ((1, 4), "F32")
    assert come["model.layers.5.eh_proj.weight"] == ((64, 128), "BF16")
    assert come["model.layers.2.mlp.experts.3.down_proj.weight"] == ((64, 16), "F8_E4M3")
    kept = behind_layers(kinds(SMALL)) - behind_layers(come)
    assert {name for name in kept if "weight_scale_inv" not in name} == {
        "self_attn.q_b_proj.weight", "self_attn.kv_b_proj.weight", "self_attn.q_a_layernorm.weight",
        "self_attn.kv_a_layernorm.weight", "self_attn.indexer.wq_b.weight", "self_attn.indexer.k_norm.weight",
        "self_attn.indexer.k_norm.bias", "mlp.gate.e_score_correction_bias",
    }  # fmt: skip


def test_more_layers_and_experts_are_further_names_alone():
    before, more = kinds(SMALL), kinds({**SMALL, "num_hidden_layers": 6})
    assert behind_layers(more) == behind_layers(before)
    assert {name for name in more if ".layers.5." in name} == {
        name.replace(".layers.4.", ".layers.5.") for name in more if ".layers.4." in name
    }
    gone, come = changed(SMALL, n_routed_experts=6)
    assert {name for name in come if ".experts." in name} == {
        name.replace("experts.3.", f"experts.{n}.") for name in before if "experts.3." in name for n in (4, 5)
    }
    assert behind_layers(gone) == {"mlp.gate.weight", "mlp.gate.e_score_correction_bias"}


def test_the_dimension_of_a_head_that_the_config_states_drives_nothing():
    assert changed(SMALL, head_dim=7) == ({}, {})
