"""The tensors of GLM-5.3-Flash follow from its config, as published and by its rules."""

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

# The config of the NVFP4 export under the declaration of the FP8 release, whose own config was not found.
RELEASE = config_of("glm-5.3-flash-fp8")
LINEAR, SPARSE = "linear_attention", "deepseek_sparse_attention"

TEXT: dict[str, Any] = {
    "model_type": "glm5_next_text", "dtype": "bfloat16", "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 4,
    "num_nextn_predict_layers": 1, "num_attention_heads": 4, "q_lora_rank": 48, "kv_lora_rank": 32,
    "qk_nope_head_dim": 16, "qk_rope_head_dim": 0, "head_dim": 0, "v_head_dim": 16, "intermediate_size": 80,
    "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_routed_experts": 4, "n_shared_experts": 1,
    "num_experts_per_tok": 2, "layer_types": [LINEAR, SPARSE, LINEAR, SPARSE], "index_n_heads": 2,
    "index_head_dim": 16, "index_kpool": 4, "index_kpool_compress": True, "linear_num_heads": 4, "linear_head_dim": 8,
    "linear_conv_kernel_dim": 4, "mhc": True, "hc_mult": 2,
}  # fmt: skip
SMALL: dict[str, Any] = {
    "model_type": "glm5_next",
    "text_config": TEXT,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 16]},
    "vision_config": {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "in_channels": 3, "patch_size": 2,
        "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": 64, "projection_intermediate_size": 96,
        "attention_bias": True,
    },
}  # fmt: skip


def text(**changes: Any) -> dict[str, Any]:
    return {**SMALL, "text_config": {**TEXT, **changes}}


def of_layer(tensors: dict[str, Any], layer: int) -> set[str]:
    prefix = f"model.language_model.layers.{layer}."
    return {name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}


def test_the_fp8_release_is_derived_tensor_by_tensor():
    tensors = kinds(RELEASE)
    assert tensors == table_of("glm-5.3-flash-fp8")
    # Source: the hub's sizes, by tensors, stored elements and payload bytes; and its elements of one dtype.
    assert totals(tensors) == (76_108, 321_342_220_638, 328_326_771_576)
    assert totals({name: kind for name, kind in tensors.items() if kind[1] == "F8_E4M3"})[:2] == (
        37_338,
        314_396_639_232,
    )


def test_a_released_config_is_sound_though_some_of_its_dimensions_are_0():
    assert RELEASE["text_config"]["qk_rope_head_dim"] == RELEASE["text_config"]["head_dim"] == 0
    found = configured(RELEASE)
    assert (found.faults, found.unsupported, found.foreign) == ((), None, None)


def test_what_the_release_leaves_as_it_is_need_not_be_excluded():
    declared = {**RELEASE["quantization_config"], "modules_to_not_convert": None}
    assert kinds({**RELEASE, "quantization_config": declared}) == kinds(RELEASE)


def test_an_excluded_module_is_plain():
    declared = {**SMALL["quantization_config"], "modules_to_not_convert": ["model.language_model.layers.4"]}
    gone, come = changed(SMALL, quantization_config=declared)
    assert {dtype for _, dtype in come.values()} == {"BF16"}
    assert all(name.startswith("model.language_model.layers.4.") for name in gone)


# --- rules


def test_a_wider_model_changes_what_reads_and_writes_the_residual_stream():
    gone, come = changed(SMALL, text_config={**TEXT, "hidden_size": 96})
    assert gone.keys() == come.keys()
    assert not any("visual" in name for name in come)
    assert come["model.language_model.layers.0.self_attn.f_a_proj.weight"] == ((8, 96), "BF16")
    assert come["model.language_model.layers.1.self_attn.indexer.index_kpool_compress_gate"] == ((16, 96), "BF16")
    assert come["model.language_model.layers.2.hc_ffn_fn"] == ((8, 192), "BF16")
    assert come["lm_head.weight"] == ((96, 96), "BF16")


def test_a_layer_has_the_attention_of_its_type_and_an_mtp_module_sparse_attention():
    tensors = kinds(SMALL)
    linear = {name for name in of_layer(tensors, 0) if name.startswith("self_attn.")}
    sparse = {name for name in of_layer(tensors, 1) if name.startswith("self_attn.")}
    assert linear & sparse == {"self_attn.o_proj.weight"}
    assert linear <= of_layer(tensors, 2)
    assert sparse <= of_layer(tensors, 4)
    other = kinds(text(layer_types=[SPARSE, SPARSE, LINEAR, LINEAR]))
    assert sparse <= of_layer(other, 0)
    assert linear <= of_layer(other, 3)


def test_heads_without_positions_have_no_rope_dimensions():
    tensors = kinds(SMALL)
    assert tensors["model.language_model.layers.1.self_attn.kv_a_proj_with_mqa.weight"] == ((32, 64), "F8_E4M3")
    assert tensors["model.language_model.layers.1.self_attn.q_b_proj.weight"] == ((64, 48), "F8_E4M3")


def test_a_shared_indexer_is_stored_where_it_is_full():
    gone, come = changed(SMALL, text_config={**TEXT, "indexer_types": ["full", "full", "full", "shared"]})
    assert not come
    assert {name.split(".")[3] for name in gone} == {"3"}
    assert all(".indexer." in name for name in gone)


def test_hyper_connections_are_of_the_main_model_alone():
    gone, _ = changed(SMALL, text_config={**TEXT, "mhc": False})
    assert {name.split(".")[3] for name in gone} == {"0", "1", "2", "3"}
    assert all(".hc_" in name for name in gone)


def test_more_experts_and_layers_are_further_names():
    gone, come = changed(SMALL, text_config={**TEXT, "n_routed_experts": 5})
    assert behind_layers({name.removeprefix("model.language_model.") for name in gone}) == {
        "mlp.gate.weight", "mlp.gate.e_score_correction_bias",
    }  # fmt: skip
    assert "model.language_model.layers.4.mlp.experts.4.down_proj.weight_scale_inv" in come
    deeper = text(num_hidden_layers=5, layer_types=[LINEAR, SPARSE, LINEAR, SPARSE, LINEAR])
    assert expected(deeper).mtp_layers == (5,)
    assert "self_attn.A_log" in of_layer(kinds(deeper), 4)


def test_an_mtp_module_has_no_copies_of_the_vocabulary():
    tensors = kinds(SMALL)
    assert of_layer(tensors, 4) - of_layer(tensors, 3) == {
        "eh_proj.weight", "enorm.weight", "hnorm.weight", "shared_head.norm.weight",
    }  # fmt: skip


def test_what_transformers_keeps_in_f32_is_as_sound_as_bf16():
    rows = expected(SMALL).names
    prefix = "model.language_model.layers.2."
    for name in ("self_attn.q_conv1d.weight", "mlp.gate.weight", "hc_attn_fn"):
        assert (rows[prefix + name].dtype, rows[prefix + name].allowed) == ("BF16", ("F32",))
    assert rows[f"{prefix}self_attn.A_log"].dtype == rows[f"{prefix}self_attn.dt_bias"].dtype == "F32"


def test_the_tower_follows_from_its_own_config():
    gone, come = changed(SMALL, vision_config={**SMALL["vision_config"], "depth": 1, "attention_bias": False})
    assert not come
    blocks = {name for name in gone if ".blocks.1." in name}
    assert {name.rpartition(".")[2] for name in set(gone) - blocks} == {"bias"}
    assert not any("visual" in name for name in kinds({**SMALL, "vision_config": None}))
    assert kinds(SMALL)["model.visual.patch_embed.proj.weight"] == ((32, 3, 2, 2, 2), "BF16")


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("layer_types", [LINEAR], "layer_types"),
        ("index_kpool", None, "index_kpool"),
        ("hc_mult", None, "hc_mult"),
        ("q_lora_rank", None, "q_lora_rank"),
        ("mlp_layer_types", ["dense", "dense"], "mlp_layer_types"),
        ("linear_attn_config", {"num_heads": 5}, "linear_attn_config.num_heads"),
        ("linear_attn_config", {"kda_layers": [1, 3]}, "linear_attn_config.kda_layers"),
    ],
)
def test_fields_that_cannot_both_be_right_are_named_where_they_are(field, value, place):
    assert faults(text(**{field: value})) == [("contradictory-config", f"text_config.{place}")]


def test_what_is_said_twice_and_alike_is_no_fault():
    again = {"num_heads": 4, "head_dim": 8, "short_conv_kernel_size": 4, "kda_layers": [0, 2]}
    assert faults(text(linear_attn_config=again, mlp_layer_types=["dense", "sparse", "sparse", "sparse"])) == []
