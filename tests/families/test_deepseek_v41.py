"""The tensors of DeepSeek-V4.1-Flash follow from its config, as published and by its rules."""

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

RELEASE = config_of("deepseek-v4.1-flash")

TEXT: dict[str, Any] = {
    "model_type": "deepseek_v41_text", "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 4,
    "num_nextn_predict_layers": 2, "num_attention_heads": 4, "head_dim": 32, "qk_rope_head_dim": 8, "q_lora_rank": 48,
    "o_groups": 2, "o_lora_rank": 16, "compress_ratios": [0, 2, 1, 1, 0, 0], "kv_source_layer_ids": [1, 2],
    "index_source_layer_ids": [1, 3], "index_n_heads": 2, "index_head_dim": 16, "hc_mult": 2,
    "moe_intermediate_size": 32, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
    "engram_layer_ids": [1, 3], "engram_num_embeddings": [1000, 1001], "engram_max_ngram_size": 3,
    "engram_n_heads": 2, "engram_head_dim": 48, "dspark_block_size": 5, "dspark_target_layer_ids": [2, 3],
    "dspark_markov_rank": 8, "dspark_n_routed_experts": 3, "dspark_num_experts_per_tok": 1,
}  # fmt: skip
SMALL: dict[str, Any] = {
    "model_type": "deepseek_v41",
    "dtype": "bfloat16",
    "quantization_config": {
        "quant_method": "fp8",
        "weight_block_size": [16, 16],
        "scale_fmt": "ue8m0",
        "expert_dtype": "fp4",
    },
    "text_config": TEXT,
    "vision_config": {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "patch_size": 2,
        "downsample_ratio": 3,
    },
}


def text(**changes: Any) -> dict[str, Any]:
    return {**SMALL, "text_config": {**TEXT, **changes}}


def test_the_release_is_derived_tensor_by_tensor():
    tensors = kinds(RELEASE)
    assert tensors == table_of("deepseek-v4.1-flash")
    # Source: the sizes that the hub lists, by tensors, stored elements and payload bytes.
    assert totals(tensors) == (96_085, 508_182_659_298, 510_286_023_000)


def test_the_released_config_is_sound_and_its_format_of_experts_the_familys_own():
    found = configured(RELEASE)
    assert (found.faults, found.unsupported, found.foreign) == ((), None, None)
    assert found.config is not None
    assert list(found.config.readings()) == []


def test_another_format_of_experts_is_told_by_the_declaration_that_has_it():
    found = configured({**SMALL, "quantization_config": {**SMALL["quantization_config"], "expert_dtype": "int3"}})
    assert found.foreign is not None
    assert found.foreign.field == "quantization_config.expert_dtype"


# --- rules


def test_a_wider_model_changes_what_reads_and_writes_the_residual_stream():
    gone, come = changed(SMALL, text_config={**TEXT, "hidden_size": 96})
    assert gone.keys() == come.keys()
    assert come["aligner.w2.weight"] == ((96, 96), "BF16")
    assert come["layers.1.engram.wkv.weight"] == ((288, 192), "F8_E4M3")
    assert come["mtp.0.main_proj.weight"] == ((96, 192), "F8_E4M3")
    assert not any(name.startswith("vision.") or ".wq_b." in name for name in come)


def test_only_source_layers_compress_and_only_larger_ratios_weigh_tokens():
    tensors = kinds(SMALL)
    of = {
        layer: {name.partition(".attn.")[2] for name in tensors if f"layers.{layer}.attn." in name}
        for layer in range(4)
    }
    keys = {"compressor.wkv.weight", "compressor.norm.weight", "indexer.wk.weight", "indexer.k_norm.weight"}
    chooser = {"indexer.wq_b.weight", "indexer.wq_b.scale", "indexer.weights_proj.weight"}
    assert of[1] - of[0] == keys | chooser | {"compressor.wgate.weight"}
    assert of[2] - of[0] == keys
    assert of[3] - of[0] == chooser


def test_a_table_of_ngrams_has_the_rows_of_its_layer_and_a_scale_for_32_of_a_row():
    tensors = kinds(SMALL)
    assert tensors["layers.1.engram.embed.weight"] == ((1000, 48), "F8_E4M3")
    assert tensors["layers.3.engram.embed.weight"] == ((1001, 48), "F8_E4M3")
    assert tensors["layers.3.engram.embed.scale"] == ((1001, 2), "F8_E8M0")
    assert tensors["layers.3.engram.wkv.weight"] == ((192, 192), "F8_E4M3")
    assert tensors["layers.3.engram.wkv.scale"] == ((12, 12), "F8_E8M0")
    assert not any("engram" in name for name in kinds(text(engram_layer_ids=[], engram_num_embeddings=[])))


def test_the_release_has_more_rows_in_a_table_than_any_other_dimension_may_have():
    assert max(RELEASE["text_config"]["engram_num_embeddings"]) > 1 << 24
    assert faults(text(engram_num_embeddings=[1000, (1 << 29) + 1])) == [
        ("invalid-config-field", "text_config.engram_num_embeddings.1")
    ]


def test_stages_have_experts_of_their_own_number():
    gone, come = changed(SMALL, text_config={**TEXT, "dspark_n_routed_experts": 2})
    assert all(name.startswith("mtp.") for name in (*gone, *come))
    assert come["mtp.1.ffn.gate.bias_vl"] == ((2,), "F32")
    assert expected(SMALL).mtp_layers == (4, 5)


def test_the_last_stage_has_the_heads_and_none_mixes_streams_before_them():
    tensors = kinds(SMALL)
    assert {name for name in tensors if "_head" in name} == {
        "mtp.1.markov_head.embed.weight", "mtp.1.markov_head.head.weight", "mtp.1.confidence_head.proj.weight",
    }  # fmt: skip
    assert not any("hc_head" in name for name in tensors)


def test_every_router_has_a_second_bias_for_images():
    tensors = kinds(SMALL)
    biases = {name for name in tensors if name.endswith("gate.bias")}
    assert {f"{name}_vl" for name in biases} <= tensors.keys()
    assert len(biases) == 6


def test_without_a_vision_config_there_is_no_tower():
    gone, come = changed(SMALL, vision_config=None)
    assert not come
    assert {name.partition(".")[0] for name in gone} == {
        "vision", "aligner", "image_start", "image_end", "image_newline",
    }  # fmt: skip


def test_a_deeper_tower_has_more_blocks():
    gone, come = changed(SMALL, vision_config={**SMALL["vision_config"], "num_hidden_layers": 3})
    assert not gone
    assert {name.split(".")[2] for name in come} == {"2"}
    assert "attn.wqkv.bias" in behind_layers({name.removeprefix("vision.") for name in come})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("engram_num_embeddings", [1000]),
        ("engram_n_heads", None),
        ("dspark_n_routed_experts", None),
        ("dspark_num_experts_per_tok", 4),
        ("kv_source_layer_ids", [0]),
        ("index_source_layer_ids", [4]),
    ],
)
def test_fields_that_cannot_both_be_right_are_named_where_they_are(field, value):
    assert faults(text(**{field: value})) == [("contradictory-config", f"text_config.{field}")]
