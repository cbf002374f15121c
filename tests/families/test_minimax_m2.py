"""The tensors of MiniMax-M2 follow from its config, of M2.7 as published and of any other by its rules."""

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

NAME = "minimax-m2.7"
SMALL: dict[str, Any] = {
    **config_of(NAME), "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 12, "intermediate_size": 24, "num_local_experts": 4, "num_experts_per_tok": 2,
    "attn_type_list": [1, 1, 1],
}  # fmt: skip


def test_the_release_is_derived_tensor_by_tensor():
    # Source: a header dump of the release, by tensors, stored elements and payload bytes.
    assert kinds(config_of(NAME)) == table_of(NAME)
    assert totals(kinds(config_of(NAME))) == (96_103, 228_703_644_928, 230_121_630_720)


def test_the_released_config_is_sound_and_its_bare_exemptions_exempt_nothing_that_is_quantised():
    fields = config_of(NAME)
    found = configured(fields)
    assert (found.faults, found.unsupported, found.foreign) == ((), None, None)
    bare = {**fields["quantization_config"], "modules_to_not_convert": None}
    assert kinds({**fields, "quantization_config": bare}) == kinds(fields)


def test_a_bare_component_exempts_the_projections_of_that_name_in_every_expert():
    quantization = {**SMALL["quantization_config"], "modules_to_not_convert": ["w2"]}
    gone, come = changed(SMALL, quantization_config=quantization)
    assert len(come) == 3 * 4
    assert behind_layers(come) == {"block_sparse_moe.experts.N.w2.weight"}
    assert {dtype for _, dtype in come.values()} == {"BF16"}
    assert behind_layers(gone) - behind_layers(come) == {"block_sparse_moe.experts.N.w2.weight_scale_inv"}


def test_no_mtp_module_is_stored_whatever_the_config_says_of_them():
    assert (SMALL["use_mtp"], SMALL["num_mtp_modules"]) == (True, 3)
    assert expected(SMALL).mtp_layers == ()
    assert changed(SMALL, num_mtp_modules=0, use_mtp=False) == ({}, {})


def test_norms_of_queries_and_keys_cover_all_heads_together():
    tensors = kinds(SMALL)
    assert tensors["model.layers.0.self_attn.q_norm.weight"] == ((4 * 12,), "BF16")
    assert tensors["model.layers.0.self_attn.k_norm.weight"] == ((2 * 12,), "BF16")
    gone, come = changed(SMALL, use_qk_norm=False)
    assert (behind_layers(gone), come) == ({"self_attn.q_norm.weight", "self_attn.k_norm.weight"}, {})


def test_a_router_is_float32_or_as_the_other_floats_and_its_bias_float32():
    rows = expected(SMALL).names
    router, bias = (
        rows[f"model.layers.2.block_sparse_moe.{name}"] for name in ("gate.weight", "e_score_correction_bias")
    )
    assert (router.dtype, router.allowed) == ("F32", ("BF16",))
    assert (bias.dtype, bias.allowed) == ("F32", ())
    gone, come = changed(SMALL, use_routing_bias=False)
    assert (behind_layers(gone), come) == ({"block_sparse_moe.e_score_correction_bias"}, {})


@pytest.mark.parametrize(
    ("changes", "name", "kind"),
    [
        ({"num_attention_heads": 8}, "self_attn.q_proj.weight", ((96, 32), "F8_E4M3")),
        ({"num_key_value_heads": 4}, "self_attn.k_proj.weight", ((48, 32), "F8_E4M3")),
        ({"head_dim": None}, "self_attn.o_proj.weight", ((32, 32), "F8_E4M3")),
        ({"head_dim": 100}, "self_attn.q_proj.weight_scale_inv", ((4, 1), "F32")),
        ({"intermediate_size": 300}, "block_sparse_moe.experts.3.w2.weight_scale_inv", ((1, 3), "F32")),
        ({"intermediate_size": 40}, "block_sparse_moe.experts.0.w3.weight", ((40, 32), "F8_E4M3")),
        ({"hidden_size": 64}, "block_sparse_moe.gate.weight", ((4, 64), "F32")),
        ({"num_local_experts": 6}, "block_sparse_moe.experts.5.w1.weight", ((24, 32), "F8_E4M3")),
        ({"num_local_experts": 6}, "block_sparse_moe.e_score_correction_bias", ((6,), "F32")),
    ],
)
def test_a_changed_field_changes_what_follows_from_it(changes, name, kind):
    come = changed(SMALL, **changes)[1]
    assert {come[f"model.layers.{layer}.{name}"] for layer in range(3)} == {kind}


def test_more_layers_are_further_names_alone():
    more = kinds({**SMALL, "num_hidden_layers": 4, "attn_type_list": [1] * 4})
    assert {name.replace(".3.", ".2.", 1) for name in more.keys() - kinds(SMALL).keys()} == {
        name for name in kinds(SMALL) if name.startswith("model.layers.2.")
    }


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"num_key_value_heads": 3}, ("contradictory-config", "num_key_value_heads")),
        ({"num_experts_per_tok": 5}, ("contradictory-config", "num_experts_per_tok")),
        ({"attn_type_list": [1]}, ("contradictory-config", "attn_type_list")),
        ({"attn_type_list": [1, 0, 1]}, ("invalid-config-field", "attn_type_list.1")),
        ({"shared_intermediate_size": 8}, ("invalid-config-field", "shared_intermediate_size")),
        ({"qk_norm_type": "per_head"}, ("invalid-config-field", "qk_norm_type")),
        ({"hidden_size": 3, "head_dim": None}, ("contradictory-config", "head_dim")),
    ],
)
def test_what_no_release_is_known_to_have_or_cannot_be_is_a_fault(changes, fault):
    assert faults({**SMALL, **changes}) == [fault]
