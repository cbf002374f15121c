"""The tensors of MiMo-V2.5 and V2.5-Pro follow from their configs, as published and of any other by its rules."""

from typing import Any

import pytest

from auditor.families.scaling import scale_name
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

# Sources: header dumps of both releases, by tensors, stored elements and payload bytes.
RELEASES = {
    "mimo-v2.5-pro": (159_581, 1_023_244_718_976, 1_033_369_538_304),
    "mimo-v2.5": (73_081, 310_775_040_000, 315_031_102_208),
}
PRO = config_of("mimo-v2.5-pro")
SMALL: dict[str, Any] = {
    **PRO, "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 2, "head_dim": 12, "v_head_dim": 8, "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4, "swa_head_dim": 10, "swa_v_head_dim": 6, "intermediate_size": 48,
    "moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "hybrid_layer_pattern": [0, 1, 1, 0], "moe_layer_freq": [0, 1, 1, 1],
    "quantization_config": {
        "quant_method": "fp8", "weight_block_size": [16, 16],
        "ignored_layers": [*(f"model.layers.{n}.self_attn.o_proj" for n in range(4)), "model.decoder.self_attn.o_proj"],
    },
}  # fmt: skip
TOWERS = {key: config_of("mimo-v2.5")[key] for key in ("vision_config", "audio_config")}


def ignoring(*modules: str) -> dict[str, Any]:
    return {**SMALL, "quantization_config": {**SMALL["quantization_config"], "ignored_layers": list(modules)}}


# --- the releases


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_is_derived_tensor_by_tensor(name):
    assert kinds(config_of(name)) == table_of(name)
    assert totals(kinds(config_of(name))) == RELEASES[name]


@pytest.mark.parametrize("name", RELEASES)
def test_a_released_config_is_sound(name):
    found = configured(config_of(name))
    assert (found.faults, found.unsupported, found.foreign) == ((), None, None)


# --- attention


def test_the_fused_projection_holds_queries_keys_and_values_by_the_kind_of_the_layer():
    tensors = kinds(SMALL)
    full, sliding = 8 * 12 + 2 * (12 + 8), 4 * 10 + 4 * (10 + 6)
    assert [tensors[f"model.layers.{n}.self_attn.qkv_proj.weight"][0] for n in range(4)] == [
        (full, 64), (sliding, 64), (sliding, 64), (full, 64),
    ]  # fmt: skip
    assert tensors["model.layers.0.self_attn.o_proj.weight"] == ((64, 8 * 8), "BF16")
    assert tensors["model.layers.1.self_attn.o_proj.weight"] == ((64, 4 * 6), "BF16")
    assert tensors["model.mtp.layers.0.self_attn.qkv_proj.weight"] == ((sliding, 64), "F8_E4M3")


def test_the_blocks_of_the_fused_projection_begin_anew_in_each_part():
    tensors = kinds(SMALL)
    # 136 rows are two parts of 68, each of 5 blocks; 104 rows are two of 52, each of 4. Whole they were 9 and 7.
    assert tensors["model.layers.0.self_attn.qkv_proj.weight_scale_inv"] == ((10, 4), "F32")
    assert tensors["model.layers.1.self_attn.qkv_proj.weight_scale_inv"] == ((8, 4), "F32")
    # Four parts of 44 rows make 12 blocks, and of the layers with a window four of 26 make 8.
    _, come = changed(SMALL, num_key_value_heads=4)
    assert come["model.layers.0.self_attn.qkv_proj.weight_scale_inv"] == ((12, 4), "F32")
    assert come.keys() == {
        f"model.layers.{n}.self_attn.qkv_proj.{end}" for n in (0, 3) for end in ("weight", "weight_scale_inv")
    }


def test_layers_with_a_window_have_a_bias_for_each_head_and_others_if_the_config_says_so():
    sinks = {name: shape for name, (shape, _) in kinds(SMALL).items() if name.endswith("attention_sink_bias")}
    assert sinks == {
        f"model.{layer}.self_attn.attention_sink_bias": (4,)
        for layer in ("layers.1", "layers.2", "mtp.layers.0", "mtp.layers.1", "mtp.layers.2")
    }
    gone, come = changed(SMALL, add_swa_attention_sink_bias=False, add_full_attention_sink_bias=True)
    assert gone.keys() == sinks.keys()
    assert come == {f"model.layers.{n}.self_attn.attention_sink_bias": ((8,), "BF16") for n in (0, 3)}


def test_an_output_projection_is_quantised_unless_the_list_names_it():
    tensors = kinds(ignoring("model.layers.2.self_attn.o_proj"))
    assert tensors["model.layers.2.self_attn.o_proj.weight"][1] == "BF16"
    assert tensors["model.layers.0.self_attn.o_proj.weight"][1] == "F8_E4M3"
    assert tensors["model.layers.0.self_attn.o_proj.weight_scale_inv"] == ((4, 4), "F32")


@pytest.mark.parametrize("entry", ["model.decoder.self_attn.o_proj", "model.mtp"])
def test_an_mtp_module_is_exempt_by_the_name_of_its_decoder_and_by_its_own(entry):
    tensors = kinds(ignoring(entry))
    assert {tensors[f"model.mtp.layers.{n}.self_attn.o_proj.weight"][1] for n in range(3)} == {"BF16"}
    assert tensors["model.layers.0.self_attn.o_proj.weight"][1] == "F8_E4M3"
    assert (scale_name("model.mtp.layers.1.mlp.up_proj.weight") in tensors) is ("decoder" in entry)


# --- experts and MTP


def test_a_list_says_which_layers_have_experts():
    def sparse(fields: dict[str, Any]) -> set[int]:
        return {int(name.split(".")[2]) for name in kinds(fields) if name.endswith(".mlp.gate.weight")}

    assert sparse(SMALL) == {1, 2, 3}
    assert sparse({**SMALL, "moe_layer_freq": [1, 0, 0, 1]}) == {0, 3}
    gone, come = changed(SMALL, n_routed_experts=5)
    assert come["model.layers.3.mlp.experts.4.down_proj.weight"] == ((64, 32), "F8_E4M3")
    assert come["model.layers.3.mlp.gate.weight"] == ((5, 64), "F32")
    assert behind_layers(gone) == {"mlp.gate.weight", "mlp.gate.e_score_correction_bias"}


def test_a_router_is_float32_or_as_the_other_floats():
    router = expected(SMALL).names["model.layers.1.mlp.gate.weight"]
    assert (router.dtype, router.allowed) == ("F32", ("BF16",))
    assert changed(SMALL, topk_method="greedy")[0].keys() == {
        f"model.layers.{n}.mlp.gate.e_score_correction_bias" for n in (1, 2, 3)
    }


def test_there_are_three_mtp_modules_where_nothing_says_otherwise():
    expectations = expected(SMALL)
    assert expectations.mtp_layers == (4, 5, 6)
    own = behind_layers({name.replace("mtp.", "") for name in expectations.names if ".mtp." in name})
    assert {name for name in own if not name.startswith(("self_attn.", "mlp."))} == {
        f"{name}.weight"
        for name in ("eh_proj", "enorm", "hnorm", "final_layernorm", "input_layernorm", "pre_mlp_layernorm")
    }
    assert expected({**SMALL, "num_nextn_predict_layers": 1}).mtp_layers == (4,)
    assert not [name for name in kinds({**SMALL, "num_nextn_predict_layers": 0}) if ".mtp." in name]


# --- towers


def test_towers_are_there_where_the_config_has_them_and_are_never_quantised():
    gone, come = changed({**SMALL, "hidden_size": 4096}, **TOWERS)
    assert not gone
    assert {name.partition(".")[0] for name in come} == {"visual", "audio_encoder", "speech_embeddings"}
    assert {dtype for _, dtype in come.values()} == {"BF16"}
    assert len(come) == (28 * 12 + 24 + 4) + (6 * 12 + 3) + 20


@pytest.mark.parametrize(
    ("tower", "changes", "name", "shape"),
    [
        ("vision_config", {"hidden_size": 100}, "visual.merger.mlp.0.weight", (400, 400)),
        ("vision_config", {"num_key_value_heads": 4}, "visual.blocks.3.attn.qkv.bias", (2560,)),
        ("vision_config", {"num_heads": 16}, "visual.blocks.3.attn.sinks", (16,)),
        ("vision_config", {"patch_size": 14}, "visual.patch_embed.proj.weight", (1280, 3, 2, 14, 14)),
        ("vision_config", {"spatial_merge_size": 3}, "visual.merger.mlp.2.weight", (4096, 11520)),
        ("audio_config", {"group_size": 2}, "audio_encoder.projection.mlp.0.weight", (8192, 2048)),
        ("audio_config", {"speech_vocab_size": 7}, "speech_embeddings.19.weight", (7, 1024)),
        ("audio_config", {"audio_channels": 21}, "speech_embeddings.20.weight", (1280, 1024)),
        (
            "audio_config",
            {"input_local_intermediate_size": 8},
            "audio_encoder.input_local_transformer.layers.5.mlp.down_proj.weight",
            (1024, 8),
        ),
    ],
)
def test_a_changed_field_of_a_tower_changes_what_follows_from_it(tower, changes, name, shape):
    fields = {**SMALL, "hidden_size": 4096, **TOWERS}
    assert kinds({**fields, tower: {**fields[tower], **changes}})[name] == (shape, "BF16")


# --- faults


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"hybrid_layer_pattern": [0, 1]}, ("contradictory-config", "hybrid_layer_pattern")),
        ({"moe_layer_freq": [1] * 5}, ("contradictory-config", "moe_layer_freq")),
        ({"moe_layer_freq": [2, 1, 1, 1]}, ("invalid-config-field", "moe_layer_freq.0")),
        ({"moe_layer_freq": 1}, ("invalid-config-field", "moe_layer_freq")),
        ({"attention_projection_layout": "split_qkv"}, ("invalid-config-field", "attention_projection_layout")),
        ({"n_shared_experts": 1}, ("invalid-config-field", "n_shared_experts")),
        ({"num_experts_per_tok": 5}, ("contradictory-config", "num_experts_per_tok")),
        ({"audio_config": TOWERS["audio_config"]}, ("contradictory-config", "audio_config.out_hidden_size")),
    ],
)
def test_what_no_release_is_known_to_have_or_cannot_be_is_a_fault(changes, fault):
    assert faults({**SMALL, **changes}) == [fault]
