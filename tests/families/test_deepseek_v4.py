"""The tensors of DeepSeek-V4 follow from its config, of every release as published and of any other by its rules."""

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

# Sources: published header dumps and file sizes of the releases, by tensors, stored elements and payload bytes.
RELEASES = {
    "deepseek-v4-flash": (69_187, 158_069_433_298, 159_609_485_896),
    "deepseek-v4-pro": (145_116, 861_608_274_846, 864_704_792_696),
    "deepseek-v4-flash-0731": (72_317, 165_265_454_782, 166_878_536_440),
    "deepseek-v4-pro-0813": (149_782, 889_484_881_098, 892_727_580_904),
}
FP8 = config_of("deepseek-v4-flash")["quantization_config"]

SMALL: dict[str, Any] = {
    "model_type": "deepseek_v4", "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 4,
    "num_nextn_predict_layers": 1, "num_attention_heads": 4, "head_dim": 32, "qk_rope_head_dim": 8, "q_lora_rank": 48,
    "o_groups": 2, "o_lora_rank": 16, "compress_ratios": [0, 4, 8, 4, 0], "index_n_heads": 2, "index_head_dim": 16,
    "hc_mult": 2, "moe_intermediate_size": 32, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
    "num_hash_layers": 1, "expert_dtype": "fp4", "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 16], "scale_fmt": "ue8m0"},
}  # fmt: skip
DSPARK = {"dspark_block_size": 5, "dspark_markov_rank": 8, "dspark_target_layer_ids": [1, 2, 3]}


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_has_its_tensors_elements_and_bytes(name):
    assert totals(kinds(config_of(name))) == RELEASES[name]


def test_a_release_is_derived_tensor_by_tensor():
    assert kinds(config_of("deepseek-v4-flash-0731")) == table_of("deepseek-v4-flash-0731")


@pytest.mark.parametrize("name", RELEASES)
def test_a_released_config_is_sound_whatever_it_declares_of_experts(name):
    found = configured(config_of(name))
    assert (found.faults, found.unsupported, found.foreign) == ((), None, None)


# --- rules


def test_a_wider_model_changes_what_reads_and_writes_the_residual_stream():
    gone, come = changed(SMALL, hidden_size=96)
    assert gone.keys() == come.keys()
    kept = behind_layers(kinds(SMALL)) - behind_layers(come)
    assert {name for name in kept if name.startswith("attn.w")} == {"attn.wo_a.weight", "attn.wo_a.scale"} | {
        "attn.wq_b.weight", "attn.wq_b.scale",
    }  # fmt: skip
    assert come["layers.0.ffn.experts.0.w1.weight"] == ((32, 48), "I8")
    assert come["layers.0.ffn.experts.0.w1.scale"] == ((32, 3), "F8_E8M0")
    assert come["layers.2.hc_attn_fn"] == ((8, 192), "F32")
    assert come["mtp.0.e_proj.weight"] == ((96, 96), "F8_E4M3")


def test_more_layers_need_more_ratios_and_move_the_mtp_module_behind_them():
    more = {**SMALL, "num_hidden_layers": 5}
    assert faults({**more, "compress_ratios": [0, 4, 8, 4]}) == [("contradictory-config", "compress_ratios")]
    assert faults({**more, "compress_ratios": [0, 4, 8, 4, 0]}) == [("contradictory-config", "compress_ratios")]
    grown = kinds({**more, "compress_ratios": [0, 4, 8, 4, 0, 0]})
    assert {name for name in grown.keys() - kinds(SMALL).keys() if not name.startswith("layers.4.")} == set()
    assert expected({**more, "compress_ratios": [0, 4, 8, 4, 0, 0]}).mtp_layers == (5,)


def test_more_experts_are_further_names_and_a_taller_router():
    gone, come = changed(SMALL, n_routed_experts=6)
    assert behind_layers(gone) == {"ffn.gate.weight", "ffn.gate.bias"}
    assert behind_layers(set(come) - set(gone)) == {
        f"ffn.experts.N.{matrix}.{part}" for matrix in ("w1", "w2", "w3") for part in ("weight", "scale")
    }
    assert come["mtp.0.ffn.gate.bias"] == ((6,), "F32")


@pytest.mark.parametrize(
    ("ratio", "modules"),
    [
        (0, set()),
        (8, {"attn.compressor.ape", "attn.compressor.wkv.weight"}),
        (4, {"attn.compressor.ape", "attn.compressor.wkv.weight", "attn.indexer.wq_b.weight"}),
    ],
)
def test_a_layer_compresses_and_chooses_by_its_ratio(ratio, modules):
    tensors = kinds({**SMALL, "compress_ratios": [0, 0, ratio, 0, 0]})
    assert {name for name in modules if f"layers.2.{name}" in tensors} == modules
    assert behind_layers({name for name in tensors if "compressor" in name or "indexer" in name}) >= modules
    assert any(".compressor." in name for name in tensors) is bool(ratio)
    assert any(".indexer." in name for name in tensors) is (ratio == 4)


def test_windows_overlap_at_ratio_4_alone_and_their_states_are_twice_as_wide():
    tensors = kinds(SMALL)
    assert tensors["layers.1.attn.compressor.ape"] == ((4, 64), "F32")
    assert tensors["layers.2.attn.compressor.ape"] == ((8, 32), "F32")
    assert tensors["layers.1.attn.indexer.compressor.wgate.weight"] == ((32, 64), "BF16")
    assert tensors["layers.1.attn.compressor.norm.weight"] == tensors["layers.2.attn.compressor.norm.weight"]


def test_a_hash_layer_has_a_table_of_experts_in_the_place_of_a_bias():
    tensors = kinds({**SMALL, "num_hash_layers": 2})
    for layer in range(4):
        assert (f"layers.{layer}.ffn.gate.tid2eid" in tensors) is (layer < 2)
        assert (f"layers.{layer}.ffn.gate.bias" in tensors) is (layer >= 2)
    assert tensors["layers.1.ffn.gate.tid2eid"] == ((96, 2), "I64")
    row = expected(SMALL).names["layers.0.ffn.gate.tid2eid"]
    assert (row.role, row.below) == ("table", 4)


def test_the_previews_module_has_two_projections_and_a_head_of_its_own():
    tensors = kinds(SMALL)
    main = {name.removeprefix("layers.3.") for name in tensors if name.startswith("layers.3.")}
    assert {name.removeprefix("mtp.0.") for name in tensors if name.startswith("mtp.")} - main == {
        "e_proj.weight", "e_proj.scale", "h_proj.weight", "h_proj.scale", "enorm.weight", "hnorm.weight",
        "norm.weight", "hc_head_fn", "hc_head_base", "hc_head_scale",
    }  # fmt: skip


def test_later_releases_have_as_many_stages_as_ratios_behind_the_last_layer():
    fields = {**SMALL, **DSPARK, "compress_ratios": [0, 4, 8, 4, 0, 0, 0]}
    tensors = kinds(fields)
    assert expected(fields).mtp_layers == (4, 5, 6)
    alike = {name.partition(".attn.")[2] for name in tensors if name.startswith("mtp.0.attn.")}
    assert alike == {name.partition(".attn.")[2] for name in tensors if name.startswith("mtp.2.attn.")}
    assert [name for name in tensors if ".main_proj." in name] == ["mtp.0.main_proj.weight", "mtp.0.main_proj.scale"]
    assert tensors["mtp.0.main_proj.weight"] == ((64, 192), "F8_E4M3")
    assert {name for name in tensors if "head" in name and name.startswith("mtp")} == {
        f"mtp.2.{name}" for name in (
            "markov_head.markov_w1.weight", "markov_head.markov_w2.weight", "confidence_head.proj.weight",
            "hc_head_fn", "hc_head_base", "hc_head_scale",
        )
    }  # fmt: skip
    assert tensors["mtp.2.confidence_head.proj.weight"] == ((1, 72), "BF16")


def test_without_mtp_modules_nothing_stands_behind_the_last_layer():
    assert not any(name.startswith("mtp.") for name in kinds({**SMALL, "num_nextn_predict_layers": 0}))


def test_a_stage_of_ratio_4_has_an_indexer_as_any_layer():
    tensors = kinds({**SMALL, "compress_ratios": [0, 4, 8, 4, 4]})
    assert "mtp.0.attn.indexer.wq_b.scale" in tensors


# --- formats


def test_experts_are_fp4_and_everything_else_that_is_quantised_fp8():
    rows = expected(SMALL).names
    formats = {name: row.quantiser.name for name, row in rows.items() if row.quantiser is not None}
    assert {each for name, each in formats.items() if ".experts." in name} == {"MXFP4"}
    assert {each for name, each in formats.items() if ".experts." not in name} == {"FP8 in blocks of 16 × 16"}
    assert rows["layers.0.ffn.experts.0.w2.weight"].shape_of_weight == (64, 32)


def test_experts_declared_fp8_are_in_blocks_and_their_scales_may_be_f32():
    rows = expected({**SMALL, "expert_dtype": "fp8"}).names
    assert (rows["layers.0.ffn.experts.0.w2.weight"].shape, rows["layers.0.ffn.experts.0.w2.weight"].dtype) == (
        (64, 32),
        "F8_E4M3",
    )
    scale = rows["layers.0.ffn.experts.0.w2.scale"]
    assert (scale.shape, scale.dtype, scale.allowed) == ((4, 2), "F8_E8M0", ("F32",))
    assert expected(SMALL).names["layers.0.attn.wkv.scale"].allowed == ()


def test_where_nothing_is_declared_of_experts_they_are_read_either_way():
    undeclared = {name: value for name, value in SMALL.items() if name != "expert_dtype"}
    assert kinds(undeclared) == kinds(SMALL)
    config = configured(undeclared).config
    assert config is not None
    assert [reading.expert_dtype for reading in config.readings()] == ["fp4", "fp8"]
    assert list(configured(SMALL).config.readings()) == []


def test_a_bf16_conversion_has_no_scales_and_unpacked_experts():
    tensors = kinds({**SMALL, "quantization_config": None})
    assert not any(name.endswith(".scale") for name in tensors)
    assert tensors["layers.0.ffn.experts.0.w2.weight"] == ((64, 32), "BF16")


def test_a_tied_head_is_not_stored():
    assert changed(SMALL, tie_word_embeddings=True)[0].keys() == {"head.weight"}


# --- the config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("o_groups", 3),
        ("qk_rope_head_dim", 7),
        ("qk_rope_head_dim", 34),
        ("num_experts_per_tok", 5),
        ("num_hash_layers", 5),
        ("compress_ratios", [0, 4]),
        ("compress_ratios", [0, 4, 8, 4]),
    ],
)
def test_fields_that_cannot_both_be_right_are_named(field, value):
    assert ("contradictory-config", field) in faults({**SMALL, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("compress_ratios", None),
        ("compress_ratios", [0, -1, 0, 0, 0]),
        ("expert_dtype", "int4"),
        ("head_dim", 0),
        ("hc_mult", "4"),
    ],
)
def test_a_value_that_a_field_cannot_have_is_named(field, value):
    assert {(kind, (name or "").partition(".")[0]) for kind, name in faults({**SMALL, field: value})} == {
        ("invalid-config-field", field)
    }


def test_stages_need_what_their_heads_are_made_of():
    assert faults({**SMALL, "dspark_block_size": 5}) == [
        ("contradictory-config", "dspark_markov_rank"),
        ("contradictory-config", "dspark_target_layer_ids"),
    ]
