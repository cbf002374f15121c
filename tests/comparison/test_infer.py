"""A config field that the tensors contradict with one voice is named with the value they show, and nothing else is."""

import pytest

from auditor.comparison.infer import infer
from auditor.comparison.match import match
from auditor.families import family_for
from auditor.families.expectations import Expectations
from auditor.format.entries import Shard, TensorHeader
from auditor.inventory.facts import Inventory
from auditor_schemas.policy import Limits

TRUE = {
    "model_type": "deepseek_v3", "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 5,
    "num_nextn_predict_layers": 1, "num_attention_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 20,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 6, "v_head_dim": 10, "intermediate_size": 48,
    "moe_intermediate_size": 16, "first_k_dense_replace": 2, "n_routed_experts": 6, "n_shared_experts": 2,
    "num_experts_per_tok": 2, "torch_dtype": "bfloat16", "index_n_heads": 4, "index_head_dim": 6,
}  # fmt: skip
FP8 = {"quant_method": "fp8", "weight_block_size": [16, 16]}
FIELDS = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "q_lora_rank", "kv_lora_rank",
    "qk_nope_head_dim", "v_head_dim", "intermediate_size", "moe_intermediate_size", "first_k_dense_replace",
    "n_routed_experts", "n_shared_experts",
)  # fmt: skip
V32_FIELDS = ("index_n_heads", "index_head_dim")


def expected(fields: dict) -> Expectations:
    family = family_for(fields["model_type"])
    return family.expectations(family.config.model_validate(fields))


def stored(fields: dict, without=(), **replaced: TensorHeader) -> Inventory:
    """An inventory that is exactly what `fields` imply, but for what is replaced or left out."""
    tensors = {name: TensorHeader(row.dtype, row.shape, (0, 0)) for name, row in expected(fields).names.items()}
    tensors.update(replaced)
    for name in without:
        del tensors[name]
    return Inventory((Shard("model.safetensors", 0, "read", tensors=tensors),))


def contradicted(inventory: Inventory, fields: dict) -> list[tuple[str, object, int]]:
    family = family_for(fields["model_type"])
    config = family.config.model_validate(fields)
    found = match(inventory, family.expectations(config))
    corrections = infer(inventory, config, family, found, Limits())
    for each in corrections:
        assert each.explained
    return [(each.field, each.declared, each.shown) for each in corrections]


@pytest.mark.parametrize("quantised", [True, False], ids=["FP8", "BF16"])
@pytest.mark.parametrize("step", [-1, 1, 2])
@pytest.mark.parametrize("field", FIELDS)
def test_one_wrong_field_is_named_with_what_the_tensors_show(field, step, quantised):
    true = {**TRUE, "quantization_config": FP8 if quantised else None}
    declared = {**true, field: true[field] + step}
    assert contradicted(stored(true), declared) == [(field, declared[field], true[field])]


@pytest.mark.parametrize("step", [-1, 1])
@pytest.mark.parametrize("field", [*FIELDS, *V32_FIELDS])
def test_the_same_holds_for_v32_with_its_indexer(field, step):
    true = {**TRUE, "model_type": "deepseek_v32", "quantization_config": FP8}
    declared = {**true, field: true[field] + step}
    assert contradicted(stored(true), declared) == [(field, declared[field], true[field])]


@pytest.mark.parametrize("wrong", [2, 4, 8])
def test_a_wrong_rotary_dimension_is_named(wrong):
    assert contradicted(stored(TRUE), {**TRUE, "qk_rope_head_dim": wrong}) == [("qk_rope_head_dim", wrong, 6)]


def test_a_wrong_field_is_named_though_the_right_value_contradicts_another():
    declared = {**TRUE, "n_routed_experts": 8, "n_group": 4, "topk_group": 1}
    assert contradicted(stored(TRUE), declared) == [("n_routed_experts", 8, 6)]


def test_two_wrong_fields_are_both_named():
    declared = {**TRUE, "vocab_size": 97, "moe_intermediate_size": 32}
    assert sorted(contradicted(stored(TRUE), declared)) == [("moe_intermediate_size", 32, 16), ("vocab_size", 97, 96)]


@pytest.mark.parametrize(
    ("field", "value", "other"),
    [
        ("q_lora_rank", 24, None),
        ("q_lora_rank", None, 24),
        ("n_shared_experts", 2, None),
        ("attention_bias", True, False),
        ("topk_method", "noaux_tc", "greedy"),
        ("moe_layer_freq", 2, 1),
        ("moe_layer_freq", 1, 2),
    ],
)
def test_a_field_that_decides_which_tensors_there_are_is_named_where_they_are_there(field, value, other):
    true = {**TRUE, field: value}
    assert contradicted(stored(true), {**true, field: other}) == [(field, other, value)]


@pytest.mark.parametrize(
    ("field", "value", "other"),
    [("n_shared_experts", None, 2), ("attention_bias", False, True), ("topk_method", "greedy", "noaux_tc")],
)
def test_tensors_that_are_not_there_show_nothing_about_such_a_field(field, value, other):
    """A tool that drops the correction biases does not say that there should be none."""
    true = {**TRUE, field: value}
    assert contradicted(stored(true), {**true, field: other}) == []


def test_the_correction_lists_the_tensors_it_explains():
    family = family_for("deepseek_v3")
    config = family.config.model_validate({**TRUE, "vocab_size": 97})
    inventory = stored(TRUE)
    corrections = infer(inventory, config, family, match(inventory, family.expectations(config)), Limits())
    assert corrections[0].explained == (
        "lm_head.weight", "model.embed_tokens.weight", "model.layers.5.embed_tokens.weight",
        "model.layers.5.shared_head.head.weight",
    )  # fmt: skip


# --- damage to tensors is not the config's fault


def test_a_sound_checkpoint_contradicts_nothing():
    assert contradicted(stored(TRUE), TRUE) == []


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight", "model.layers.0.self_attn.q_a_proj.weight",
        "model.layers.0.mlp.up_proj.weight", "model.layers.3.mlp.experts.2.down_proj.weight",
        "model.layers.5.eh_proj.weight", "model.layers.4.input_layernorm.weight",
        "model.layers.2.mlp.gate.e_score_correction_bias", "model.layers.3.self_attn.kv_b_proj.weight",
    ],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["missing", "misshapen", "mistyped", "transposed", "another name"])
def test_one_damaged_tensor_contradicts_no_field(name, damage):
    header = stored(TRUE).tensors[name]
    shape = (header.shape[0] + 1, *header.shape[1:])
    match damage:
        case "missing":
            inventory = stored(TRUE, without=[name])
        case "misshapen":
            inventory = stored(TRUE, **{name: TensorHeader(header.dtype, shape, (0, 0))})
        case "mistyped":
            inventory = stored(TRUE, **{name: TensorHeader("F64", header.shape, (0, 0))})
        case "transposed":
            inventory = stored(TRUE, **{name: TensorHeader(header.dtype, header.shape[::-1], (0, 0))})
        case _:
            inventory = stored(TRUE, without=[name], **{f"{name}.old": header})
    assert contradicted(inventory, TRUE) == []


@pytest.mark.parametrize("layer", [0, 2, 4])
def test_a_missing_layer_in_the_middle_contradicts_no_field(layer):
    prefix = f"model.layers.{layer}."
    inventory = stored(TRUE, without=[name for name in stored(TRUE).tensors if name.startswith(prefix)])
    assert contradicted(inventory, TRUE) == []


@pytest.mark.parametrize("expert", [0, 3])
def test_missing_experts_of_one_layer_contradict_no_field(expert):
    gone = [name for name in stored(TRUE).tensors if f"layers.3.mlp.experts.{expert}." in name]
    assert contradicted(stored(TRUE, without=gone), TRUE) == []


@pytest.mark.parametrize("experts", [6, 64])
@pytest.mark.parametrize(("kept", "declared"), [(0, 1), (0, 2), (1, 2), (1, 3), (2, 1), (1, 0)])
def test_mtp_modules_that_were_dropped_or_not_declared_contradict_no_number_of_layers(experts, kept, declared):
    true = {**TRUE, "n_routed_experts": experts, "num_nextn_predict_layers": kept}
    assert contradicted(stored(true), {**true, "num_nextn_predict_layers": declared}) == []


@pytest.mark.parametrize("declared", [4, 6, 9])
def test_a_wrong_number_of_layers_is_named_with_and_without_mtp_modules(declared):
    for modules in (0, 1, 2):
        true = {**TRUE, "num_nextn_predict_layers": modules}
        found = contradicted(stored(true), {**true, "num_hidden_layers": declared})
        assert found == [("num_hidden_layers", declared, 5)]


def test_a_tensor_of_a_billionth_layer_is_no_reason_to_build_a_billion_layers():
    odd = {
        f"model.layers.{layer}.self_attn.o_proj.weight": TensorHeader("BF16", (1, 1), (0, 0))
        for layer in (10**8, 10**8 + 1)
    }
    assert contradicted(stored(TRUE, **odd), TRUE) == []
    odd = {"model.layers.3.mlp.experts.99999999.up_proj.weight": TensorHeader("BF16", (1, 1), (0, 0))}
    assert contradicted(stored(TRUE, without=["lm_head.weight"], **odd), TRUE) == []
