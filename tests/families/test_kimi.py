"""The tensors of Kimi-K2.5 and K3 follow from their configs, as published and by their rules."""

from typing import Any

import pytest

from tests.families.tables import changed, config_of, configured, expected, faults, kinds, table_of, totals

# By tensors, stored elements and payload bytes; sources: the sizes that the hub lists.
RELEASES = {
    "kimi-k2.5": (208_550, 170_738_182_128, 595_148_192_736),
    "kimi-k3": (497_220, 1_503_647_073_024, 1_560_860_324_864),
}
PREFIX = "language_model.model.layers"

K25_TEXT: dict[str, Any] = {
    "model_type": "kimi_k2", "dtype": "bfloat16", "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 3,
    "num_attention_heads": 4, "q_lora_rank": 48, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 16, "intermediate_size": 80, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
    "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "num_nextn_predict_layers": 0,
}  # fmt: skip
VISION: dict[str, Any] = {
    "vt_num_hidden_layers": 2, "vt_hidden_size": 32, "vt_intermediate_size": 48, "patch_size": 2,
    "init_pos_emb_height": 4, "init_pos_emb_width": 5, "mm_hidden_size": 32, "merge_kernel_size": [2, 2],
    "text_hidden_size": 64,
}  # fmt: skip
K25: dict[str, Any] = {"model_type": "kimi_k25", "text_config": K25_TEXT, "vision_config": VISION}

K3_TEXT: dict[str, Any] = {
    "model_type": "kimi_linear", "dtype": "bfloat16", "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 3,
    "num_attention_heads": 4, "q_lora_rank": 48, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 16, "mla_use_output_gate": True, "attn_res_block_size": 2, "intermediate_size": 80,
    "first_k_dense_replace": 1, "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_token": 2,
    "num_shared_experts": 2, "routed_expert_hidden_size": 40, "latent_moe_use_norm": True,
    "linear_attn_config": {
        "kda_layers": [1, 2], "full_attn_layers": [3], "num_heads": 3, "head_dim": 8, "short_conv_kernel_size": 4,
        "use_full_rank_gate": True,
    },
}  # fmt: skip
K3: dict[str, Any] = {"model_type": "kimi_k3", "text_config": K3_TEXT, "vision_config": VISION}


def text(fields: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**fields["text_config"], **changes}


def of_layer(tensors: dict[str, Any], layer: int) -> set[str]:
    prefix = f"{PREFIX}.{layer}."
    return {name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_is_derived_tensor_by_tensor(name):
    tensors = kinds(config_of(name))
    assert tensors == table_of(name)
    assert totals(tensors) == RELEASES[name]


@pytest.mark.parametrize("name", RELEASES)
def test_a_released_config_is_sound_and_declares_its_format_beside_the_layout(name):
    found = configured(config_of(name))
    assert (found.faults, found.unsupported, found.foreign) == ((), None, None)
    assert found.config is not None
    assert found.config.export is not None
    assert found.config.export.field.startswith("text_config.quantization_config")


def test_a_successor_may_call_its_text_model_by_another_name():
    fields = {**K25, "text_config": text(K25, model_type="deepseek_v3")}
    assert kinds(fields) == kinds(K25)


@pytest.mark.parametrize("fields", [K25, K3])
def test_without_a_declaration_everything_is_a_float(fields):
    assert {dtype for _, dtype in kinds(fields).values()} <= {"BF16", "F32"}


@pytest.mark.parametrize("fields", [K25, K3])
def test_a_wider_model_changes_what_reads_and_writes_the_residual_stream(fields):
    vision = {**VISION, "text_hidden_size": 96}
    gone, come = changed(fields, text_config=text(fields, hidden_size=96), vision_config=vision)
    assert gone.keys() == come.keys()
    assert come[f"{PREFIX}.2.self_attn.q_a_proj.weight"] == ((48, 96), "BF16")
    assert come["mm_projector.proj.2.weight"] == ((96, 128), "BF16")
    assert not any(name.startswith("vision_tower.") for name in come)


def test_more_layers_and_experts_are_further_names():
    deeper = kinds({**K25, "text_config": text(K25, num_hidden_layers=4)})
    assert of_layer(deeper, 3) == of_layer(deeper, 2)
    gone, come = changed(K25, text_config=text(K25, n_routed_experts=6))
    assert {name.rpartition(".")[2] for name in gone} == {"weight", "e_score_correction_bias"}
    assert come[f"{PREFIX}.1.mlp.experts.5.down_proj.weight"] == ((64, 32), "BF16")
    gone, come = changed(K3, text_config=text(K3, num_experts=5))
    assert come[f"{PREFIX}.1.block_sparse_moe.experts.4.w2.weight"] == ((40, 32), "BF16")


def test_an_excluded_module_is_left_as_it_is_and_the_others_packed():
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
    declared = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"],
    }
    tensors = kinds({**K25, "text_config": text(K25, quantization_config=declared)})
    assert tensors[f"{PREFIX}.0.mlp.gate_proj.weight_packed"] == ((80, 8), "I32")
    assert tensors[f"{PREFIX}.0.self_attn.o_proj.weight"] == ((64, 64), "BF16")
    row = expected({**K25, "text_config": text(K25, quantization_config=declared)}).names[
        f"{PREFIX}.1.mlp.experts.3.up_proj.weight_packed"
    ]
    assert row.shape_of_weight == (32, 64)


# --- K3


def test_layers_of_linear_attention_are_counted_from_1():
    tensors = kinds(K3)
    assert "self_attn.A_log" in of_layer(tensors, 0) & of_layer(tensors, 1)
    assert "self_attn.kv_b_proj.weight" in of_layer(tensors, 2)
    other = {**K3_TEXT["linear_attn_config"], "kda_layers": [2], "full_attn_layers": [1, 3]}
    assert "self_attn.kv_b_proj.weight" in of_layer(kinds({**K3, "text_config": text(K3, linear_attn_config=other)}), 0)


def test_a_gate_is_one_projection_or_one_of_low_rank():
    low = {**K3_TEXT["linear_attn_config"], "use_full_rank_gate": False}
    gone, come = changed(K3, text_config=text(K3, linear_attn_config=low))
    assert gone == {f"{PREFIX}.{layer}.self_attn.g_proj.weight": ((24, 64), "BF16") for layer in (0, 1)}
    assert {name.rpartition("self_attn.")[2] for name in come} == {"g_a_proj.weight", "g_b_proj.weight"}


def test_experts_work_in_a_latent_where_there_is_one():
    tensors = kinds(K3)
    assert tensors[f"{PREFIX}.1.block_sparse_moe.experts.0.w1.weight"] == ((32, 40), "BF16")
    assert tensors[f"{PREFIX}.1.block_sparse_moe.shared_experts.up_proj.weight"] == ((64, 64), "BF16")
    gone, come = changed(K3, text_config=text(K3, routed_expert_hidden_size=None))
    assert {name.partition("block_sparse_moe.")[2] for name in set(gone) - set(come)} == {
        "routed_expert_down_proj.weight", "routed_expert_norm.weight", "routed_expert_up_proj.weight",
    }  # fmt: skip
    assert come[f"{PREFIX}.1.block_sparse_moe.experts.0.w1.weight"] == ((32, 64), "BF16")


def test_residual_attention_stands_in_every_layer_and_before_the_head():
    gone, come = changed(K3, text_config=text(K3, attn_res_block_size=None))
    assert not come
    assert len(gone) == 2 + 4 * 3
    assert all("_res_" in name for name in gone)


def test_decays_are_stored_for_full_blocks_of_heads():
    assert kinds(config_of("kimi-k3"))[f"{PREFIX}.0.self_attn.A_log"] == ((128,), "F32")
    more = {**K3_TEXT["linear_attn_config"], "num_heads": 130}
    assert kinds({**K3, "text_config": text(K3, linear_attn_config=more)})[f"{PREFIX}.0.self_attn.A_log"][0] == (256,)


# --- the tower and the config


def test_towers_differ_by_their_config_in_biases_and_projector():
    gone, come = changed(
        K25, vision_config={**VISION, "norm_type": "rmsnorm", "attn_bias": False, "linear_bias": False}
    )
    assert not come
    assert all(name.endswith(".bias") for name in gone)
    gone, come = changed(K25, vision_config={**VISION, "mm_projector_type": "patchmergerv2"})
    assert come == {"mm_projector.post_norm.weight": ((64,), "BF16")}
    assert set(gone) == {
        f"mm_projector.{name}" for name in ("pre_norm.weight", "pre_norm.bias", "proj.0.bias", "proj.2.bias")
    }
    gone, _ = changed(K25, vision_config={**VISION, "qkv_hidden_size": 40})
    assert {name.split(".")[4] for name in gone if name.endswith("weight")} == {"wqkv", "wo"}
    assert not any(name.startswith(("vision_tower", "mm_projector")) for name in kinds({**K25, "vision_config": None}))


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("num_experts_per_token", 5, "num_experts_per_token"),
        ("linear_attn_config", {**K3_TEXT["linear_attn_config"], "kda_layers": [1]}, "linear_attn_config.kda_layers"),
        (
            "linear_attn_config",
            {**K3_TEXT["linear_attn_config"], "kda_layers": [1, 2, 3]},
            "linear_attn_config.kda_layers",
        ),
    ],
)
def test_fields_that_cannot_both_be_right_are_named_where_they_are(field, value, place):
    assert faults({**K3, "text_config": text(K3, **{field: value})}) == [
        ("contradictory-config", f"text_config.{place}")
    ]


def test_a_tower_of_another_width_is_named():
    vision = {**VISION, "text_hidden_size": 32}
    assert faults({**K25, "vision_config": vision}) == [("contradictory-config", "vision_config.text_hidden_size")]


def test_an_mtp_module_of_k3_is_not_known():
    assert faults({**K3, "text_config": text(K3, num_nextn_predict_layers=1)}) == [
        ("invalid-config-field", "text_config.num_nextn_predict_layers")
    ]
