"""The tensors derived from config.json are those of the releases, row by row, and consistent for any config."""

import json
import re
from itertools import product
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import UsageError
from auditor.families import Family, families, family_for, family_named
from auditor.families.expectations import Expectations
from auditor.families.scaling import scale_name
from auditor.patterns import patterns

DATA = Path(__file__).parents[1] / "data"
RELEASES = {"deepseek-v3": 91_991, "deepseek-v3.2": 92_425}


def config_of(name: str) -> dict:
    return json.loads((DATA / f"config.{name}.json").read_text())


def inventory_of(name: str) -> list[tuple[str, tuple[int, ...], str]]:
    """The rows of a published header dump: pattern, shape, dtype."""
    lines = (DATA / f"inventory.{name}.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return [(row[0], tuple(int(n) for n in row[1].split("x")), row[2]) for row in rows]


def expand(pattern: str) -> list[str]:
    """Every name that a pattern of {a-b} ranges stands for; written apart from the code under test."""
    parts = re.split(r"\{(\d+)-(\d+)\}", pattern)
    ranges = [range(int(a), int(b) + 1) for a, b in zip(parts[1::3], parts[2::3], strict=True)]
    return [
        "".join(text + str(number) for text, number in zip(parts[::3], (*numbers, ""), strict=True))
        for numbers in product(*ranges)
    ]


def expected(fields: dict, family: Family | None = None) -> Expectations:
    family = family or family_for(fields["model_type"])
    return family.expectations(family.config.model_validate(fields))


def kinds(expectations: Expectations) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (row.shape, row.dtype) for name, row in expectations.names.items()}


# --- the releases


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_is_derived_tensor_by_tensor(name):
    published = {each: (shape, dtype) for pattern, shape, dtype in inventory_of(name) for each in expand(pattern)}
    assert len(published) == RELEASES[name]
    assert kinds(expected(config_of(name))) == published


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_is_derived_row_by_row(name):
    by_kind: dict[tuple, list[str]] = {}
    for each, row in expected(config_of(name)).names.items():
        by_kind.setdefault((row.suffix, row.shape, row.dtype), []).append(each)
    derived = {(pattern, shape, dtype) for (_, shape, dtype), names in by_kind.items() for pattern in patterns(names)}
    assert derived == set(inventory_of(name))


def test_the_release_counts_its_tensors_by_dtype():
    # Source: the header dump of the release, which agrees with the hub's dtype totals.
    rows = expected(config_of("deepseek-v3")).names.values()
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        counts[row.dtype, row.role] = counts.get((row.dtype, row.role), 0) + 1
    by_dtype = {dtype: sum(n for (d, _), n in counts.items() if d == dtype) for dtype in ("F8_E4M3", "F32", "BF16")}
    assert by_dtype == {"F8_E4M3": 45_808, "F32": 45_808 + 59, "BF16": 316}
    assert counts["F32", "scale"] == 45_808
    assert counts["F32", "router_bias"] == 59


@pytest.mark.parametrize("name", RELEASES)
def test_every_fp8_weight_of_a_release_has_its_scale_and_no_other_tensor_has(name):
    names = expected(config_of(name)).names
    scales = {each for each, row in names.items() if row.role == "scale"}
    weights = {each for each, row in names.items() if row.dtype == "F8_E4M3"}
    assert scales == {scale_name(each) for each in weights} == {f"{each}_scale_inv" for each in weights}
    for each in weights:
        rows, columns = names[each].shape
        assert names[scale_name(each)].shape == (ceil(rows / 128), ceil(columns / 128))
        assert names[scale_name(each)].dtype == "F32"
        assert names[each].quantised


def test_a_partial_edge_block_counts_as_a_block():
    names = expected(config_of("deepseek-v3")).names
    assert names["model.layers.0.self_attn.kv_a_proj_with_mqa.weight"].shape == (576, 7168)
    assert names["model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv"].shape == (5, 56)


def test_the_mtp_module_is_the_layer_behind_the_last():
    expectations = expected(config_of("deepseek-v3"))
    assert expectations.mtp_layers == (61,)
    only_mtp = {
        each.removeprefix("model.layers.61.")
        for each in expectations.names
        if each.startswith("model.layers.61.") and each.replace(".61.", ".60.") not in expectations.names
    }
    assert only_mtp == {
        "embed_tokens.weight", "shared_head.head.weight", "enorm.weight", "hnorm.weight", "shared_head.norm.weight",
        "eh_proj.weight",
    }  # fmt: skip


def test_only_the_copies_of_the_vocabulary_may_be_absent():
    names = expected(config_of("deepseek-v3")).names
    assert {each for each, row in names.items() if row.optional} == {
        "model.layers.61.embed_tokens.weight",
        "model.layers.61.shared_head.head.weight",
    }


# --- families


def test_families_are_found_by_name_and_by_model_type():
    assert {"deepseek-v3", "deepseek-v3.2"} <= families().keys()
    assert family_for("deepseek_v3") is family_named("deepseek-v3")
    assert family_for("deepseek_v32") is family_named("deepseek-v3.2")


@pytest.mark.parametrize("model_type", ["llama", "", None, 3, [], {}])
def test_an_unknown_model_type_has_no_family(model_type):
    assert family_for(model_type) is None


def test_an_unknown_family_lists_the_known():
    with pytest.raises(UsageError, match=r"no such family; choose .*deepseek-v3 or .*deepseek-v3\.2"):
        family_named("llama")


# --- variants of the layout

TINY = {
    "model_type": "deepseek_v3", "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 4,
    "num_nextn_predict_layers": 1, "num_attention_heads": 2, "q_lora_rank": 24, "kv_lora_rank": 16,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "intermediate_size": 48,
    "moe_intermediate_size": 16, "first_k_dense_replace": 1, "n_routed_experts": 4, "n_shared_experts": 1,
    "num_experts_per_tok": 2, "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 16]},
}  # fmt: skip


def tiny(**fields: object) -> dict[str, tuple[tuple[int, ...], str]]:
    return kinds(expected({**TINY, **fields}))


def exempting(*modules: str, **fields: object) -> dict[str, tuple[tuple[int, ...], str]]:
    quantization = {**TINY["quantization_config"], "modules_to_not_convert": list(modules)}
    return tiny(quantization_config=quantization, **fields)


def fp8_modules(tensors: dict) -> set[str]:
    return {name.removesuffix(".weight") for name, (_, dtype) in tensors.items() if dtype == "F8_E4M3"}


def test_without_a_query_rank_the_query_is_one_projection():
    full, single = tiny(), tiny(q_lora_rank=None)
    gone = {name for name in full if re.search(r"self_attn\.q_(a|b)_", name)}
    assert full.keys() - single.keys() == gone
    assert {name.split(".", 3)[3] for name in single.keys() - full.keys()} == {
        "self_attn.q_proj.weight",
        "self_attn.q_proj.weight_scale_inv",
    }
    assert single["model.layers.0.self_attn.q_proj.weight"] == ((2 * 12, 32), "F8_E4M3")


def test_a_tied_head_is_not_stored():
    assert tiny().keys() - tiny(tie_word_embeddings=True).keys() == {"lm_head.weight"}


def test_attention_bias_adds_one_bias_to_each_down_projection_and_the_output():
    added = {name: kind for name, kind in tiny(attention_bias=True).items() if name not in tiny()}
    assert {name.split(".", 3)[3] for name in added} == {
        "self_attn.q_a_proj.bias", "self_attn.kv_a_proj_with_mqa.bias", "self_attn.o_proj.bias",
    }  # fmt: skip
    assert len(added) == 3 * 5
    assert added["model.layers.4.self_attn.kv_a_proj_with_mqa.bias"] == ((20,), "BF16")


def test_the_router_has_a_correction_bias_with_noaux_tc_alone():
    gone = tiny().keys() - tiny(topk_method="greedy").keys()
    assert gone == {f"model.layers.{n}.mlp.gate.e_score_correction_bias" for n in (1, 2, 3, 4)}
    assert tiny(topk_method="greedy") == tiny(topk_method="group_limited_greedy")
    assert tiny()["model.layers.1.mlp.gate.e_score_correction_bias"] == ((4,), "F32")


def test_several_shared_experts_are_one_wider_mlp():
    tensors = tiny(n_shared_experts=3)
    assert tensors["model.layers.1.mlp.shared_experts.up_proj.weight"][0] == (48, 32)
    assert tensors["model.layers.1.mlp.shared_experts.down_proj.weight"][0] == (32, 48)
    assert tensors.keys() == tiny().keys()
    assert not any("shared_experts" in name for name in tiny(n_shared_experts=None))


def test_without_experts_every_layer_is_dense_and_so_is_the_mtp_module():
    tensors = tiny(n_routed_experts=None)
    assert not any("experts" in name or "mlp.gate." in name for name in tensors)
    assert sum(name.endswith(".mlp.gate_proj.weight") for name in tensors) == 5


def test_experts_stand_in_each_layer_of_the_frequency():
    moe = {int(name.split(".")[2]) for name in tiny(num_hidden_layers=7, moe_layer_freq=3) if "mlp.gate.weight" in name}
    assert moe == {3, 6}
    dense = {
        int(name.split(".")[2])
        for name in tiny(num_hidden_layers=7, moe_layer_freq=3)
        if name.endswith("mlp.gate_proj.weight")
    }
    assert dense == {0, 1, 2, 4, 5, 7}


@pytest.mark.parametrize("modules", [0, None])
def test_without_mtp_modules_there_is_no_layer_behind_the_last(modules):
    tensors = tiny(num_nextn_predict_layers=modules)
    assert {int(name.split(".")[2]) for name in tensors if ".layers." in name} == {0, 1, 2, 3}
    assert not any("eh_proj" in name for name in tensors)


def test_each_mtp_module_has_its_own_layer():
    tensors = tiny(num_nextn_predict_layers=3)
    assert {int(name.split(".")[2]) for name in tensors if "eh_proj" in name} == {4, 5, 6}
    assert expected({**TINY, "num_nextn_predict_layers": 3}).mtp_layers == (4, 5, 6)
    assert tensors["model.layers.6.eh_proj.weight"] == ((32, 64), "BF16")


def test_a_bf16_conversion_has_the_same_names_without_scales():
    quantised, converted = tiny(), tiny(quantization_config=None)
    assert converted.keys() == {name for name in quantised if not name.endswith("_scale_inv")}
    assert {dtype for _, dtype in converted.values()} == {"BF16", "F32"}
    assert {name for name, (_, dtype) in converted.items() if dtype == "F32"} == {
        name for name in converted if name.endswith("e_score_correction_bias")
    }
    assert all(converted[name][0] == quantised[name][0] for name in converted)


def test_the_released_bf16_conversion_has_half_as_many_tensors():
    fields = {**config_of("deepseek-v3"), "quantization_config": None}
    assert len(expected(fields).names) == 91_991 - 45_808


@pytest.mark.parametrize(("torch_dtype", "dtype"), [("float16", "F16"), ("float32", "F32")])
def test_unquantised_weights_have_the_configs_dtype(torch_dtype, dtype):
    tensors = tiny(torch_dtype=torch_dtype)
    assert tensors["model.embed_tokens.weight"][1] == dtype
    assert tensors["model.norm.weight"][1] == dtype
    assert tensors["model.layers.1.mlp.gate.weight"][1] == dtype
    assert tensors["model.layers.1.mlp.gate.e_score_correction_bias"][1] == "F32"


def test_the_grid_follows_the_block_size_in_both_directions():
    tensors = tiny(quantization_config={"quant_method": "fp8", "weight_block_size": [8, 32]})
    assert tensors["model.layers.0.self_attn.q_a_proj.weight_scale_inv"][0] == (ceil(24 / 8), 1)
    assert tensors["model.layers.0.self_attn.o_proj.weight_scale_inv"][0] == (ceil(32 / 8), ceil(16 / 32))


# --- modules_to_not_convert


def test_an_exempt_module_is_stored_as_a_float_without_a_scale():
    tensors = exempting("model.layers.1.self_attn.o_proj")
    assert tensors["model.layers.1.self_attn.o_proj.weight"] == (
        tiny()["model.layers.1.self_attn.o_proj.weight"][0],
        "BF16",
    )
    assert tiny().keys() - tensors.keys() == {"model.layers.1.self_attn.o_proj.weight_scale_inv"}
    assert fp8_modules(tiny()) - fp8_modules(tensors) == {"model.layers.1.self_attn.o_proj"}


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        ("model.layers.4", lambda name: name.startswith("model.layers.4.")),
        ("self_attn", lambda name: ".self_attn." in name),
        ("o_proj", lambda name: name.endswith(".o_proj")),
        ("mlp.shared_experts", lambda name: ".shared_experts." in name),
        ("shared_experts.up_proj", lambda name: name.endswith(".shared_experts.up_proj")),
        ("model", lambda name: True),
        ("layers.2.self_attn", lambda name: name.startswith("model.layers.2.self_attn.")),
    ],
)
def test_an_exemption_is_a_run_of_whole_components(module, spared):
    everything = fp8_modules(tiny())
    assert fp8_modules(exempting(module)) == {name for name in everything if not spared(name)}


@pytest.mark.parametrize("module", ["proj", "self", "model.layers.1.self", "lm_head", "gate", "attn.o_proj"])
def test_half_a_component_and_unquantised_modules_exempt_nothing(module):
    assert exempting(module) == tiny()


def test_an_exempt_layer_is_not_the_ten_that_begin_with_its_number():
    spared = fp8_modules(tiny(num_hidden_layers=12)) - fp8_modules(exempting("layers.1", num_hidden_layers=12))
    assert {name.split(".")[2] for name in spared} == {"1"}


def test_no_exemption_is_the_same_as_an_empty_list_or_none():
    assert exempting() == tiny()
    quantization = {**TINY["quantization_config"], "modules_to_not_convert": None}
    assert tiny(quantization_config=quantization) == tiny()


def test_an_exempt_mtp_module_shares_no_template_with_its_like():
    expectations = expected(
        {**TINY, "quantization_config": {**TINY["quantization_config"], "modules_to_not_convert": ["model.layers.4"]}}
    )
    assert sorted(layer for template in expectations.templates for layer in template.layers) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("module", ["model.layers.1.mlp.experts", "experts"])
def test_all_experts_can_be_exempt_together(module):
    spared = fp8_modules(tiny()) - fp8_modules(exempting(module))
    layers = {1} if "layers" in module else {1, 2, 3, 4}
    assert spared == {
        f"model.layers.{n}.mlp.experts.{e}.{p}_proj" for n in layers for e in range(4) for p in ("gate", "up", "down")
    }


# --- any config

small = st.integers(1, 40)
powers = st.sampled_from([1, 2, 4, 8, 16, 32])


@st.composite
def configs(draw):
    """Any small config of either family."""
    layers = draw(st.integers(1, 5))
    experts = draw(st.none() | st.integers(1, 5))
    fields = {
        "model_type": draw(st.sampled_from(["deepseek_v3", "deepseek_v32"])),
        **{
            name: draw(small)
            for name in (
                "vocab_size", "hidden_size", "num_attention_heads", "kv_lora_rank", "qk_nope_head_dim", "v_head_dim",
                "intermediate_size", "moe_intermediate_size", "index_n_heads", "index_head_dim",
            )
        },
        "qk_rope_head_dim": 2 * draw(small),
        "num_hidden_layers": layers,
        "num_nextn_predict_layers": draw(st.sampled_from([None, 0, 1, 2, 3])),
        "q_lora_rank": draw(st.none() | small),
        "attention_bias": draw(st.booleans()),
        "first_k_dense_replace": draw(st.integers(0, layers)),
        "moe_layer_freq": draw(st.integers(1, 3)),
        "n_routed_experts": experts,
        "n_shared_experts": draw(st.none() | st.integers(1, 3)),
        "num_experts_per_tok": 1,
        "topk_method": draw(st.sampled_from(["noaux_tc", "greedy"])),
        "tie_word_embeddings": draw(st.booleans()),
        "torch_dtype": draw(st.sampled_from([None, "bfloat16", "float16", "float32"])),
        "quantization_config": draw(
            st.none() | st.builds(lambda a, b: {"quant_method": "fp8", "weight_block_size": [a, b]}, powers, powers)
        ),
    }  # fmt: skip
    if fields["model_type"] == "deepseek_v32":
        fields["q_lora_rank"] = fields["q_lora_rank"] or 7
    return fields


def count_of_names(fields: dict) -> int:
    """The number of tensors of a config, counted apart from the code under test."""
    mtp = fields["num_nextn_predict_layers"] or 0
    linear = 2 if fields["quantization_config"] else 1
    attention = 5 * linear + 2 if fields["q_lora_rank"] else 4 * linear + 1
    if fields["attention_bias"]:
        attention += 3 if fields["q_lora_rank"] else 2
    if fields["model_type"] == "deepseek_v32":
        attention += 2 * linear + 3
    total = 2 if fields["tie_word_embeddings"] else 3
    for layer in range(fields["num_hidden_layers"] + mtp):
        experts = fields["n_routed_experts"]
        if experts and layer >= fields["first_k_dense_replace"] and layer % fields["moe_layer_freq"] == 0:
            mlp = 3 * linear * experts + 1 + (fields["topk_method"] == "noaux_tc")
            mlp += 3 * linear if fields["n_shared_experts"] else 0
        else:
            mlp = 3 * linear
        total += attention + mlp + 2
    return total + 6 * mtp


@given(configs())
def test_any_config_gives_each_name_once_and_as_many_as_counted_by_hand(fields):
    expectations = expected(fields)
    rows = [*expectations.top, *(row for template in expectations.templates for row in template.rows)]
    assert sum(expectations.multiplicity(row) for row in dict.fromkeys(rows)) == len(expectations.names)
    assert len(expectations.names) == count_of_names(fields)


@given(configs())
def test_any_config_gives_templates_that_cover_each_layer_once(fields):
    expectations = expected(fields)
    layers = [layer for template in expectations.templates for layer in template.layers]
    count = fields["num_hidden_layers"] + (fields["num_nextn_predict_layers"] or 0)
    assert sorted(layers) == list(range(count))
    assert expectations.mtp_layers == tuple(range(fields["num_hidden_layers"], count))
    for row in {row for template in expectations.templates for row in template.rows}:
        of_row = [name for name, found in expectations.names.items() if found is row]
        assert sorted(of_row) == sorted(expectations.names_of(row))
        assert len(of_row) == expectations.multiplicity(row)


@given(configs())
def test_any_config_gives_shapes_that_are_positive_and_scales_that_cover_their_weight(fields):
    names = expected(fields).names
    quantization = fields["quantization_config"]
    for name, row in names.items():
        assert all(dimension >= 1 for dimension in row.shape)
        assert row.split is None or row.split < len(row.shape)
        if row.dtype == "F8_E4M3":
            grid = names[scale_name(name)]
            block = quantization["weight_block_size"]
            assert grid.shape == tuple(ceil(n / b) for n, b in zip(row.shape, block, strict=True))
            assert (grid.role, grid.module, grid.split) == ("scale", row.module, row.split)
    assert any(row.dtype == "F8_E4M3" for row in names.values()) is (quantization is not None)
    assert sum(row.role == "scale" for row in names.values()) == sum(row.dtype == "F8_E4M3" for row in names.values())


@given(configs(), st.lists(st.sampled_from(["self_attn", "model.layers.0", "experts", "o_proj", "mlp"]), max_size=3))
def test_exemptions_change_dtypes_and_scales_and_nothing_else(fields, modules):
    if fields["quantization_config"] is None:
        return
    plain = kinds(expected(fields))
    quantization = {**fields["quantization_config"], "modules_to_not_convert": modules}
    spared = kinds(expected({**fields, "quantization_config": quantization}))
    bare = kinds(expected({**fields, "quantization_config": None}))
    assert bare.keys() <= spared.keys() <= plain.keys()
    for name, kind in spared.items():
        assert kind in (plain[name], bare.get(name))
    for name, (_, dtype) in spared.items():
        assert (scale_name(name) in spared) is (dtype == "F8_E4M3")


def test_no_other_room_names_the_module_of_a_family():
    """A family is found by its file: what names one elsewhere would be a line to add for the next."""
    root = Path(__file__).parents[2] / "auditor"
    files = (root / "families").glob("*.py")
    modules = [path.stem for path in files if re.search(r"^FAMILY = ", path.read_text(), re.MULTILINE)]
    assert len(modules) > 10
    named = re.compile(rf"families(\.| import .*\b)({'|'.join(modules)})\b")
    others = [path for path in root.rglob("*.py") if path.parent != root / "families"]
    assert [str(path) for path in others if named.search(path.read_text())] == []
