"""The tensors of Kimi-K2 follow from its config, as published and by the rules of V3."""

from typing import Any

from auditor.families import family_for
from tests.families.tables import changed, config_of, configured, expected, kinds, table_of, totals

NAME = "kimi-k2-instruct"
SMALL: dict[str, Any] = {
    **config_of(NAME), "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2,
    "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
    "intermediate_size": 48, "moe_intermediate_size": 16, "n_routed_experts": 8,
}  # fmt: skip
FREQUENCIES = "self_attn.rotary_emb.inv_freq"


def test_the_release_is_derived_tensor_by_tensor():
    # Source: a header dump of the release, by tensors, stored elements and payload bytes.
    assert kinds(config_of(NAME)) == table_of(NAME)
    assert totals(kinds(config_of(NAME))) == (139_644, 1_026_470_731_056, 1_029_173_256_720)


def test_the_released_config_is_sound():
    found = configured(config_of(NAME))
    assert (found.faults, found.unsupported, found.foreign) == ((), None, None)


def test_the_layout_is_that_of_v3_but_for_frequencies_that_may_be_absent():
    as_v3 = kinds({**SMALL, "model_type": "deepseek_v3"})
    more = {name: kind for name, kind in kinds(SMALL).items() if name not in as_v3}
    assert {**as_v3, **more} == kinds(SMALL)
    assert more == {f"model.layers.{layer}.{FREQUENCIES}": ((8,), "BF16") for layer in range(4)}
    rows = expected(SMALL).names
    assert {name for name, row in rows.items() if row.optional} == set(more)
    assert all({"F32", "F16", "BF16"} <= set(rows[name].allowed) for name in more)


def test_the_frequencies_are_half_of_a_head_as_wide_as_the_model_divided_by_heads():
    _, come = changed(SMALL, num_attention_heads=4)
    assert come[f"model.layers.0.{FREQUENCIES}"] == ((4,), "BF16")
    assert FREQUENCIES not in str(kinds({**SMALL, "num_attention_heads": 32}))


def test_there_is_no_mtp_module_unless_the_config_says_so():
    assert expected(SMALL).mtp_layers == ()
    assert expected({**SMALL, "num_nextn_predict_layers": 1}).mtp_layers == (4,)


def test_the_family_is_found_by_its_own_model_type():
    family = family_for("kimi_k2")
    assert family is not None
    assert family.name == "kimi-k2"
    assert family.architectures == ("DeepseekV3ForCausalLM",)
