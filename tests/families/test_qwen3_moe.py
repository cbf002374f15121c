"""The tensors of Qwen3-MoE follow from its config, as published and of any other by its rules."""

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

NAME = "qwen3-30b-a3b-fp8"
SMALL: dict[str, Any] = {
    **config_of(NAME), "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 12, "intermediate_size": 40, "moe_intermediate_size": 24, "num_experts": 4,
    "num_experts_per_tok": 2,
}  # fmt: skip


def sparse(fields: dict[str, Any]) -> set[int]:
    """The layers that have a router."""
    return {int(name.split(".")[2]) for name in kinds(fields) if name.endswith(".mlp.gate.weight")}


def test_the_release_is_derived_tensor_by_tensor():
    # Source: a header dump of the release, by tensors, stored elements and payload bytes.
    assert kinds(config_of(NAME)) == table_of(NAME)
    assert totals(kinds(config_of(NAME))) == (37_491, 30_533_947_392, 31_170_895_872)


@pytest.mark.parametrize("name", [NAME, "qwen3-235b-a22b-fp8"])
def test_a_released_config_is_sound_and_its_exemptions_exempt_nothing_that_is_quantised(name):
    fields = config_of(name)
    found = configured(fields)
    assert (found.faults, found.unsupported, found.foreign) == ((), None, None)
    bare = {**fields["quantization_config"], "modules_to_not_convert": []}
    assert kinds({**fields, "quantization_config": bare}) == kinds(fields)


def test_scales_are_bfloat16_or_float32():
    rows = [row for row in expected(SMALL).names.values() if row.role == "scale"]
    assert rows
    assert {(row.dtype, row.allowed) for row in rows} == {("BF16", ("F32",))}


def test_without_quantisation_the_names_are_the_same_without_scales():
    gone, come = changed(SMALL, quantization_config=None)
    assert {dtype for _, dtype in come.values()} == {"BF16"}
    assert {name for name in gone if name not in come} == {name for name in kinds(SMALL) if "scale_inv" in name}


def test_experts_stand_in_the_last_of_every_so_many_layers_unless_a_list_names_the_layer():
    assert sparse(SMALL) == {0, 1, 2, 3}
    assert sparse({**SMALL, "decoder_sparse_step": 2}) == {1, 3}
    assert sparse({**SMALL, "mlp_only_layers": [0, 3]}) == {1, 2}
    assert sparse({**SMALL, "decoder_sparse_step": 2, "mlp_only_layers": [3]}) == {1}
    _, come = changed(SMALL, mlp_only_layers=[2])
    assert come["model.layers.2.mlp.down_proj.weight"] == ((32, 40), "F8_E4M3")
    assert behind_layers(come) == {
        f"mlp.{name}_proj.weight{end}" for name in ("gate", "up", "down") for end in ("", "_scale_inv")
    }


def test_attention_bias_adds_one_to_each_projection():
    gone, come = changed(SMALL, attention_bias=True)
    assert not gone
    assert behind_layers(come) == {f"self_attn.{name}_proj.bias" for name in "qkvo"}
    assert come["model.layers.1.self_attn.k_proj.bias"] == ((24,), "BF16")


def test_a_tied_head_is_not_stored():
    assert changed(SMALL, tie_word_embeddings=True)[0].keys() == {"lm_head.weight"}


@pytest.mark.parametrize(
    ("changes", "name", "kind"),
    [
        ({"num_attention_heads": 8}, "self_attn.o_proj.weight", ((32, 96), "F8_E4M3")),
        ({"num_key_value_heads": 4}, "self_attn.v_proj.weight", ((48, 32), "F8_E4M3")),
        ({"head_dim": 16}, "self_attn.q_norm.weight", ((16,), "BF16")),
        ({"head_dim": None}, "self_attn.k_norm.weight", ((8,), "BF16")),
        ({"moe_intermediate_size": 300}, "mlp.experts.3.up_proj.weight_scale_inv", ((3, 1), "BF16")),
        ({"hidden_size": 64}, "mlp.gate.weight", ((4, 64), "BF16")),
        ({"num_experts": 6}, "mlp.experts.5.down_proj.weight", ((32, 24), "F8_E4M3")),
    ],
)
def test_a_changed_field_changes_what_follows_from_it(changes, name, kind):
    come = changed(SMALL, **changes)[1]
    assert {come[f"model.layers.{layer}.{name}"] for layer in range(4)} == {kind}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"num_key_value_heads": 3}, ("contradictory-config", "num_key_value_heads")),
        ({"num_experts_per_tok": 5}, ("contradictory-config", "num_experts_per_tok")),
        ({"mlp_only_layers": [4]}, ("contradictory-config", "mlp_only_layers")),
        ({"mlp_only_layers": [-1]}, ("invalid-config-field", "mlp_only_layers.0")),
        ({"num_experts": 0}, ("invalid-config-field", "num_experts")),
    ],
)
def test_what_cannot_be_is_a_fault(changes, fault):
    assert faults({**SMALL, **changes}) == [fault]
