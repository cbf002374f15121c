"""config.json is accepted exactly where its fields make sense together, and each fault names its field."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from auditor.families import family_named
from auditor.families.configure import Configuration, configure
from auditor.inventory.facts import ConfigFile
from auditor_schemas.policy import Limits

DATA = Path(__file__).parents[1] / "data"
V3 = json.loads((DATA / "config.deepseek-v3.json").read_text())
V32 = json.loads((DATA / "config.deepseek-v3.2.json").read_text())
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}


def configured(fields: object, *, family: str | None = None, **limits: int) -> Configuration:
    data = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    chosen = family_named(family) if family else None
    return configure(ConfigFile("read", data), Limits(**limits), family=chosen)


def changed(**fields: object) -> Configuration:
    """The released config with some fields changed; of two values for one field the last counts."""
    return configured({**V3, **fields})


def without(*names: str) -> Configuration:
    return configured({name: value for name, value in V3.items() if name not in names})


def faults(found: Configuration) -> list[tuple[str, str | None]]:
    return [(fault.kind, fault.field) for fault in found.faults]


def only_message(found: Configuration) -> str:
    assert len(found.faults) == 1, found.faults
    return found.faults[0].message


# --- the releases


@pytest.mark.parametrize(("fields", "family"), [(V3, "deepseek-v3"), (V32, "deepseek-v3.2")], ids=["V3", "V3.2"])
def test_a_released_config_is_sound(fields, family):
    found = configured(fields)
    assert found.faults == ()
    assert found.family.name == family
    assert found.unsupported is found.over_limit is None
    for name, value in fields.items():
        if name in type(found.config).model_fields and name not in ("quantization_config", "architectures"):
            assert getattr(found.config, name) == value
    assert found.config.quantization_config.weight_block_size == (128, 128)
    assert found.fields == fields


def test_fields_that_decide_no_tensor_are_ignored():
    assert changed(rope_scaling="?", new_field=[1, {"a": None}], hidden_act=7, eos_token_id=None).config is not None


def test_the_layout_depends_on_the_layer_count_with_mtp():
    config = changed().config
    assert (config.mtp_modules, config.layer_count) == (1, 62)
    assert [config.is_moe(layer) for layer in (0, 2, 3, 60, 61)] == [False, False, True, True, True]


# --- each field


DIMENSIONS = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "kv_lora_rank", "qk_nope_head_dim",
    "qk_rope_head_dim", "v_head_dim", "intermediate_size",
)  # fmt: skip
OPTIONAL = (
    "q_lora_rank", "moe_intermediate_size", "n_routed_experts", "n_shared_experts", "num_experts_per_tok", "n_group",
    "topk_group",
)  # fmt: skip
NO_NUMBER = [-1, 1.0, 1.5, "1", True, [], {}, [1], 10**30, 10**300, (1 << 24) + 1]


def shown(value: object) -> str:
    return str(value)[:20]


@pytest.mark.parametrize("value", [*NO_NUMBER, 0, None], ids=shown)
@pytest.mark.parametrize("field", DIMENSIONS)
def test_a_dimension_is_a_positive_integer_of_at_most_2_to_the_24(field, value):
    found = changed(**{field: value})
    assert faults(found) == [("invalid-config-field", field)]
    assert found.config is None
    assert "integer" in only_message(found)


@pytest.mark.parametrize("value", [*NO_NUMBER, 0], ids=shown)
@pytest.mark.parametrize("field", [*OPTIONAL, "moe_layer_freq"])
def test_an_optional_dimension_is_positive_or_null(field, value):
    assert faults(changed(**{field: value})) == [("invalid-config-field", field)]


@pytest.mark.parametrize("value", NO_NUMBER, ids=shown)
@pytest.mark.parametrize("field", ["num_nextn_predict_layers", "first_k_dense_replace"])
def test_a_number_of_layers_is_a_natural_number(field, value):
    assert faults(changed(**{field: value})) == [("invalid-config-field", field)]
    assert changed(**{field: 0}).faults == ()


@pytest.mark.parametrize("value", [None, 0, 1, "true", "false", [], 1.0], ids=shown)
@pytest.mark.parametrize("field", ["tie_word_embeddings", "attention_bias"])
def test_a_flag_is_true_or_false(field, value):
    found = changed(**{field: value})
    assert faults(found) == [("invalid-config-field", field)]
    assert only_message(found).endswith("needs true or false")
    assert getattr(changed(**{field: True}).config, field) is True
    assert getattr(changed(**{field: False}).config, field) is False


@pytest.mark.parametrize("value", ["float64", "BF16", "torch.bfloat16", "", 16, True], ids=shown)
@pytest.mark.parametrize("field", ["torch_dtype", "dtype"])
def test_a_float_dtype_is_one_of_three(field, value):
    found = changed(**{field: value})
    assert faults(found) == [("invalid-config-field", field)]
    assert "'bfloat16', 'float16' or 'float32'" in only_message(found)


def test_the_float_dtype_is_bfloat16_unless_either_field_says_otherwise():
    assert without("torch_dtype").config.float_dtype == "bfloat16"
    assert changed(torch_dtype=None).config.float_dtype == "bfloat16"
    assert changed(torch_dtype="float16").config.float_dtype == "float16"
    assert changed(torch_dtype=None, dtype="float32").config.float_dtype == "float32"
    assert changed(torch_dtype="float32", dtype="float32").config.float_dtype == "float32"


@pytest.mark.parametrize("value", ["noaux", "", 1, None, ["noaux_tc"]], ids=shown)
def test_the_routing_method_is_one_of_three(value):
    found = changed(topk_method=value)
    assert faults(found) == [("invalid-config-field", "topk_method")]
    assert "'noaux_tc', 'greedy' or 'group_limited_greedy'" in only_message(found)
    for method in ("noaux_tc", "greedy", "group_limited_greedy"):
        assert changed(topk_method=method).config.topk_method == method
    assert without("topk_method").config.topk_method == "noaux_tc"


@pytest.mark.parametrize("value", ["DeepseekV3ForCausalLM", [1], [None], {}, 1], ids=shown)
def test_architectures_are_names(value):
    assert faults(changed(architectures=value))[0][1].startswith("architectures")
    assert changed(architectures=None).config.architectures is None
    assert changed(architectures=[]).config.architectures == ()


REQUIRED = (*DIMENSIONS, "q_lora_rank", "n_routed_experts", "n_shared_experts")


@pytest.mark.parametrize("field", REQUIRED)
def test_a_field_without_a_default_must_be_there(field):
    found = without(field)
    assert faults(found) == [("invalid-config-field", field)]
    assert only_message(found).startswith("is missing, needs a positive integer")


@pytest.mark.parametrize(
    ("field", "default"),
    [
        ("num_nextn_predict_layers", 0), ("attention_bias", False), ("first_k_dense_replace", 0), ("moe_layer_freq", 1),
        ("n_group", None), ("topk_group", None), ("tie_word_embeddings", False), ("torch_dtype", None),
        ("quantization_config", None), ("architectures", None),
    ],
)  # fmt: skip
def test_a_field_with_a_default_may_be_absent(field, default):
    found = without(field)
    assert found.faults == ()
    assert getattr(found.config, field) == default


@pytest.mark.parametrize("field", ["num_nextn_predict_layers", "n_group", "topk_group", "quantization_config"])
def test_null_is_as_good_as_absent(field):
    assert changed(**{field: None}).faults == ()


def test_an_absent_or_null_number_of_mtp_modules_is_none():
    assert without("num_nextn_predict_layers").config.mtp_modules == 0
    assert changed(num_nextn_predict_layers=None).config.layer_count == 61
    assert changed(num_nextn_predict_layers=3).config.layer_count == 64


def test_null_experts_are_a_dense_model_and_zero_experts_are_refused():
    dense = changed(n_routed_experts=None, moe_intermediate_size=None, num_experts_per_tok=None)
    assert dense.faults == ()
    assert not any(dense.config.is_moe(layer) for layer in range(62))
    assert faults(changed(n_routed_experts=0)) == [("invalid-config-field", "n_routed_experts")]
    assert changed(n_shared_experts=None).faults == ()


def test_a_null_query_rank_is_a_layout_of_its_own():
    assert changed(q_lora_rank=None).config.q_lora_rank is None


def test_experts_stand_in_every_moe_layer_freq_th_layer():
    config = changed(moe_layer_freq=2).config
    assert [layer for layer in range(10) if config.is_moe(layer)] == [4, 6, 8]


def test_several_faults_are_reported_at_once_each_with_its_field():
    found = changed(
        vocab_size=-1, kv_lora_rank="512", tie_word_embeddings=None, topk_method="x", quantization_config=[]
    )
    assert set(faults(found)) == {
        ("invalid-config-field", "vocab_size"),
        ("invalid-config-field", "kv_lora_rank"),
        ("invalid-config-field", "tie_word_embeddings"),
        ("invalid-config-field", "topk_method"),
        ("invalid-quantization-config", "quantization_config"),
    }


def test_an_empty_config_lacks_every_required_field():
    found = configured({"model_type": "deepseek_v3"})
    assert {field for _, field in faults(found)} == set(REQUIRED)


# --- quantisation


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("quant_method", "FP8", "needs one of 'fp8'"),
        ("quant_method", None, "needs one of 'fp8'"),
        ("fmt", "e5m2", "needs one of 'e4m3'"),
        ("activation_scheme", "static", "needs one of 'dynamic'"),
        ("scale_fmt", "ue4m3", "needs one of 'ue8m0'"),
        ("weight_block_size", 128, "is 128, needs two positive integers, as [128, 128]"),
        ("weight_block_size", None, "is null, needs two positive integers"),
        ("weight_block_size", "128x128", "needs two positive integers"),
        ("weight_block_size", [128], "is missing, needs two positive integers, as [128, 128]"),
        ("weight_block_size", [128, 128, 128], "is [128, 128, 128], needs two positive integers"),
        ("weight_block_size", [128, 0], "is 0, needs an integer of at least 1"),
        ("weight_block_size", [128, 128.0], "is 128.0, needs an integer"),
        ("weight_block_size", [128, 127], "is 127, needs a power of two, such as the released 128"),
        ("weight_block_size", [129, 128], "is 129, needs a power of two, such as the released 128"),
        ("weight_block_size", [-128, 128], "is -128, needs an integer of at least 1"),
        ("modules_to_not_convert", "lm_head", "is 'lm_head', needs an array"),
        ("modules_to_not_convert", [1], "is 1, needs a string"),
        ("modules_to_not_convert", ["a/b"], "needs a module's name of letters, digits, '_', '-' and '.'"),
        ("modules_to_not_convert", [".*gate$"], "needs a module's name"),
        ("modules_to_not_convert", ["ok\n"], "needs a module's name"),
        ("modules_to_not_convert", [""], "needs a name of 1 to 512 characters"),
        ("modules_to_not_convert", ["a" * 513], "needs a name of 1 to 512 characters"),
        ("modules_to_not_convert", ["a"] * 200_001, "needs at most 200,000 entries"),
    ],
    ids=shown,
)
def test_a_field_of_the_quantization_config_that_is_not_the_released_format_is_named(field, value, says):
    found = changed(quantization_config={**FP8, field: value})
    assert len(found.faults) == 1
    assert found.faults[0].kind == "invalid-quantization-config"
    assert found.faults[0].field.startswith(f"quantization_config.{field}")
    assert says in found.faults[0].message


@pytest.mark.parametrize("value", ["fp8", [], 1, True], ids=shown)
def test_the_quantization_config_is_an_object(value):
    assert faults(changed(quantization_config=value)) == [("invalid-quantization-config", "quantization_config")]


def test_the_quantization_config_has_a_method_and_a_block_size():
    assert faults(changed(quantization_config={})) == [
        ("invalid-quantization-config", "quantization_config.quant_method"),
        ("invalid-quantization-config", "quantization_config.weight_block_size"),
    ]
    assert changed(quantization_config={"quant_method": "fp8", "weight_block_size": [64, 32]}).faults == ()


def test_exempt_modules_and_the_scale_format_are_kept():
    names = ["lm_head", "model.layers.61", "self_attn.q_a_proj", "a-b_c"]
    found = changed(quantization_config={**FP8, "scale_fmt": "ue8m0", "modules_to_not_convert": names, "extra": 1})
    assert found.config.quantization_config.modules_to_not_convert == tuple(names)
    assert found.config.quantization_config.scale_fmt == "ue8m0"
    assert changed(quantization_config={**FP8, "modules_to_not_convert": []}).faults == ()
    assert changed(quantization_config={**FP8, "modules_to_not_convert": None}).faults == ()


# --- fields that contradict each other


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"dtype": "float16"}, "dtype", "is 'float16', must be the same as torch_dtype (bfloat16)"),
        ({"qk_rope_head_dim": 63}, "qk_rope_head_dim", "is 63, must be even, because rotary embedding turns pairs"),
        (
            {"moe_intermediate_size": None},
            "moe_intermediate_size",
            "is null, must be given, because n_routed_experts is 256",
        ),
        (
            {"num_experts_per_tok": None},
            "num_experts_per_tok",
            "is null, must be given, because n_routed_experts is 256",
        ),
        (
            {"num_experts_per_tok": 257, "n_group": None},
            "num_experts_per_tok",
            "is 257, must be at most n_routed_experts (256)",
        ),
        ({"n_group": 7}, "n_group", "is 7, must be a divisor of n_routed_experts (256)"),
        ({"n_group": 512, "topk_group": None}, "n_group", "is 512, must be a divisor of n_routed_experts (256)"),
        ({"topk_group": 9}, "topk_group", "is 9, must be at most n_group (8)"),
        (
            {"n_group": 64, "topk_group": 1},
            "num_experts_per_tok",
            "is 8, must be at most the 4 experts that topk_group 1 of n_group 64 leaves",
        ),
    ],
    ids=shown,
)
def test_a_field_that_another_rules_out_is_a_contradiction(fields, field, says):
    found = changed(**fields)
    assert faults(found) == [("contradictory-config", field)]
    assert only_message(found) == says
    # Only where no shape follows is nothing expected of the tensors.
    assert (found.config is None) == (field == "moe_intermediate_size")


def test_contradictions_are_reported_together():
    found = changed(dtype="float16", qk_rope_head_dim=7, n_group=3, topk_group=4)
    assert faults(found) == [
        ("contradictory-config", "dtype"),
        ("contradictory-config", "qk_rope_head_dim"),
        ("contradictory-config", "n_group"),
        ("contradictory-config", "topk_group"),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"first_k_dense_replace": 61}, {"first_k_dense_replace": 99}, {"num_experts_per_tok": 256, "n_group": None},
        {"n_group": 256, "topk_group": 8},
        {"n_group": 1, "topk_group": 1}, {"topk_group": 8}, {"topk_group": None}, {"num_experts_per_tok": 128},
        {"dtype": "bfloat16"}, {"dtype": None}, {"qk_rope_head_dim": 2},
    ],
    ids=shown,
)  # fmt: skip
def test_a_value_at_the_edge_of_another_is_none(fields):
    assert changed(**fields).faults == ()


def test_the_indexer_of_v32_needs_its_fields_and_a_query_rank():
    for field in ("index_n_heads", "index_head_dim"):
        found = configured({name: value for name, value in V32.items() if name != field})
        assert faults(found) == [("invalid-config-field", field)]
        assert faults(configured({**V32, field: 0})) == [("invalid-config-field", field)]
    found = configured({**V32, "q_lora_rank": None})
    assert faults(found) == [("contradictory-config", "q_lora_rank")]


# --- families


def test_an_unknown_model_type_names_the_supported_ones_and_is_no_fault():
    found = changed(model_type="llama")
    assert found.faults == ()
    assert found.config is found.family is None
    assert "model_type 'llama' is of no known family; supported: deepseek_v3, deepseek_v32" in found.unsupported


@pytest.mark.parametrize("value", [None, 3, ["deepseek_v3"], {}, True], ids=shown)
def test_a_model_type_that_is_no_name_is_a_fault(value):
    found = changed(model_type=value)
    assert faults(found) == [("invalid-config-field", "model_type")]
    assert found.unsupported is None


def test_a_missing_model_type_is_a_fault():
    assert only_message(without("model_type")).startswith("is missing, needs one of deepseek_v3, deepseek_v32")


def test_a_hostile_model_type_is_shown_short_and_escaped():
    found = changed(model_type="\x1b[31m\u202e" + "x" * 1_000_000)
    assert "\x1b" not in found.unsupported
    assert "\u202e" not in found.unsupported
    assert len(found.unsupported) < 300


@pytest.mark.parametrize("model_type", ["kimi_k2", None, 5])
def test_a_forced_family_reads_a_fork_of_another_name(model_type):
    found = configured({**V3, "model_type": model_type}, family="deepseek-v3")
    assert found.faults == ()
    assert found.family.name == "deepseek-v3"
    assert found.config.hidden_size == 7168


def test_a_forced_family_needs_its_own_fields():
    found = configured(V3, family="deepseek-v3.2")
    assert faults(found) == [("invalid-config-field", "index_n_heads"), ("invalid-config-field", "index_head_dim")]


# --- what is no config


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is an empty file, 0 bytes"),
        (b" ", "needed a value at byte 1, the document ends"),
        (b"[]", "is [], needs an object"),
        (b"null", "is null, needs an object"),
        (b'"config"', "is 'config', needs an object"),
        (b"<!doctype html>", "is an HTML page, 15 bytes, not the JSON document of that name"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer, 43 bytes"),
        (b"\x1f\x8b\x08\x00", "is a gzip archive, 4 bytes"),
        (b"Entry not found", "is a 'not found' answer of a hub, 15 bytes"),
        (b'{"error":"Repository not found"}', "is the answer of a server, error 'Repository not found'"),
        (b'{"a":1,}', "at byte 7"),
        (b"{'a':1}", "needed a key in double quotes"),
        (b'{"a":NaN}', "found 'NaN}'"),
        (b"\xff\xfe{\x00}\x00", "begins with a byte order mark of UTF-16 (bytes ff fe), needs '{'"),
        (b"\xef\xbb\xbf{}", "begins with a byte order mark of UTF-8 (bytes ef bb bf), needs '{'"),
        (b'{"a":"\xff"}', "not UTF-8: byte 0xff at byte 6"),
        (b'{"a":"\\ud800"}', "half of a surrogate pair"),
        (b'{"a":1} {}', "2 bytes after the end"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested deeper than 64 levels"),
    ],
)
def test_a_config_that_is_no_json_object_is_malformed(data, says):
    found = configured(data)
    assert faults(found)[0][0] == "malformed-config"
    assert says in only_message(found)
    assert found.fields is found.config is None


@pytest.mark.parametrize("nested", [False, True])
def test_a_key_that_is_there_twice_leaves_no_config_to_trust(nested):
    text = json.dumps(V3)
    if nested:
        text = text.replace('"fmt": "e4m3"', '"fmt": "e4m3", "fmt": "e4m3"')
    else:
        text = text[:-1] + ', "hidden_size": 7168, "vocab_size": 1}'
    found = configured(text.encode())
    assert faults(found) == [("malformed-config", "fmt" if nested else "hidden_size")]
    assert "is there more than once, at byte" in found.faults[0].message
    assert found.faults[0].message.endswith("; and 1 more keys") is not nested
    assert found.config is None


def test_nesting_beyond_a_policys_own_bound_is_a_limit_and_no_fault():
    deep = b'{"a":' * 20 + b"1" + b"}" * 20
    assert configured(deep).over_limit is None
    found = configured(deep + b" \\", json_depth=10)
    assert (found.faults, found.fields) == ((), None)
    assert found.over_limit == "config.json: nested deeper than 10 levels (json_depth) at byte 50"


def test_more_values_than_the_limit_are_a_limit_and_no_fault():
    found = configured(json.dumps({**V3, "\n": [0] * 1000}).encode(), json_values=500)
    assert (found.faults, found.over_limit.partition(" at ")[0]) == (
        (),
        "config.json: more than 500 values (json_values)",
    )


def test_a_key_spelt_with_escapes_is_the_same_key():
    text = json.dumps(V3)[:-1] + ', "\\u0068idden_size": 7168}'
    assert faults(configured(text.encode())) == [("malformed-config", "hidden_size")]


def test_a_config_may_hold_escapes_and_any_spacing():
    text = json.dumps({**V3, "\u00e9\n": "\U0001f600"}, indent=4)
    assert configured(text.encode()).config == configured(V3).config


def test_an_absent_config_is_missing():
    found = configure(ConfigFile("absent"), Limits())
    assert faults(found) == [("missing-config", None)]


def test_a_config_that_was_not_read_is_no_fault():
    found = configure(ConfigFile("unread", reason="Permission denied"), Limits())
    assert found.faults == ()
    assert found.over_limit == "config.json: Permission denied"


def test_a_config_that_is_no_file_is_malformed():
    found = configure(ConfigFile("damaged", reason="is a fifo, not a regular file"), Limits())
    assert faults(found) == [("malformed-config", None)]


# --- what it may demand


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"num_hidden_layers": 1_001}, "num_hidden_layers", "demands 1,002 layers, limit 1,000 (layers)"),
        ({"num_hidden_layers": 1 << 24}, "num_hidden_layers", "demands 16,777,217 layers, limit 1,000 (layers)"),
        (
            {"num_nextn_predict_layers": 1 << 24},
            "num_nextn_predict_layers",
            "demands 16,777,277 layers, limit 1,000 (layers)",
        ),
        ({"n_routed_experts": 8_192}, "n_routed_experts", "demands 8,192 routed experts, limit 4,096 (experts)"),
        ({"n_routed_experts": 1 << 24}, "n_routed_experts", "demands 16,777,216 routed experts, limit 4,096 (experts)"),
        (
            {"num_hidden_layers": 999, "n_routed_experts": 4_096},
            "n_routed_experts",
            "demands 24,606,000 tensors, limit 600,000 (expected_tensors)",
        ),
    ],
    ids=shown,
)
def test_a_config_that_demands_too_much_is_over_its_limit_before_anything_is_built(fields, field, says):
    found = changed(**fields)
    assert faults(found) == [("config-over-limit", field)]
    assert only_message(found) == says
    assert found.over_limit == f"config.json: {field} {says}"
    assert found.config is None


def test_the_release_stays_within_tight_limits():
    assert configured(V3, layers=62, experts=256, expected_tensors=97_092).over_limit is None
    for limit in ({"layers": 61}, {"experts": 255}, {"expected_tensors": 97_091}):
        assert configured(V3, **limit).over_limit is not None


HOSTILE = {
    "a billion layers": json.dumps({**V3, "num_hidden_layers": 10**9}).encode(),
    "a hundred-digit dimension": json.dumps({**V3, "hidden_size": 10**100}).encode(),
    "an integer of a megabyte": b'{"hidden_size":' + b"9" * 1_000_000 + b"}",
    "brackets": b"[" * 1_000_000,
    "objects": b'{"a":' * 200_000,
    "nulls": b"\x00" * (1 << 20),
    "no UTF-8": b"\xff" * (1 << 20),
    "letters": b"a" * (1 << 20),
    "an open string": b'{"' + b"a" * (1 << 20),
    "an open string of escapes": b'{"' + b"\\n" * (1 << 19),
    "many keys": b"{" + b",".join(b'"k%d":1' % n for n in range(90_000)) + b"}",
    "one key many times": b"{" + b",".join([b'"model_type":"deepseek_v3"'] * 40_000) + b"}",
    "wrong architectures": json.dumps({**V3, "architectures": [1] * 300_000}).encode(),
    "wrong exemptions": json.dumps(
        {**V3, "quantization_config": {**FP8, "modules_to_not_convert": [1] * 150_000}}
    ).encode(),
    "a million exemptions": json.dumps(
        {**V3, "quantization_config": {**FP8, "modules_to_not_convert": ["a"] * 1_000_000}}
    ).encode(),
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited on Linux alone")
def test_hostile_configs_are_refused_within_a_second_and_256_mib_each(tmp_path):
    for number, data in enumerate(HOSTILE.values()):
        (tmp_path / f"{number:03}").write_bytes(data)
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from auditor.families.configure import configure\n"
        "from auditor.inventory.facts import ConfigFile\n"
        "from auditor_schemas.policy import Limits\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    data = path.read_bytes()\n"
        "    begin = time.process_time()\n"
        "    found = configure(ConfigFile('read', data), Limits())\n"
        "    spent = time.process_time() - begin\n"
        "    print(found.config is None and bool(found.faults), len(found.faults) <= 10_001, spent)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (256 << 20, 256 << 20)),
    )
    assert done.returncode == 0, done.stderr
    lines = dict(zip(HOSTILE, (line.split() for line in done.stdout.splitlines()), strict=True))
    assert {name: line[:2] for name, line in lines.items()} == {name: ["True", "True"] for name in HOSTILE}
    assert {name: float(line[2]) for name, line in lines.items() if float(line[2]) > 1} == {}


def test_two_hundred_thousand_sound_exemptions_are_accepted():
    names = [f"model.layers.{n}" for n in range(40_000)]
    found = changed(quantization_config={**FP8, "modules_to_not_convert": names})
    assert len(found.config.quantization_config.modules_to_not_convert) == 40_000
