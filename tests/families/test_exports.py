"""The tensors of an export are its family's in the formats that the checkpoint declares, module by module."""

import json
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from auditor.families import Family
from auditor.families.configure import Configuration, configure
from auditor.families.expectations import Expectations, Row
from auditor.format.dtypes import packed_bytes
from auditor.format.entries import elements
from auditor.inventory.facts import ConfigFile
from auditor_schemas.policy import DEFAULT_LIMITS
from tests.families.test_families import TINY, inventory_of
from tests.families.test_families import expand as expand_runs

DATA = Path(__file__).parents[1] / "data"
FLOATS = {"BF16", "F32"}


def released(name: str) -> Any:
    return json.loads((DATA / name).read_text())


def configured(config: dict, sidecar: dict | None = None, family: Family | None = None) -> Configuration:
    """A configuration from the two files, each as bytes."""
    beside = ConfigFile("absent") if sidecar is None else ConfigFile("read", json.dumps(sidecar).encode())
    file = ConfigFile("read", json.dumps(config).encode())
    return configure(file, DEFAULT_LIMITS, family=family, sidecar=lambda: beside)


def expected(config: dict, sidecar: dict | None = None) -> Expectations:
    found = configured(config, sidecar)
    assert (found.faults, found.unsupported, found.over_limit) == ((), None, None)
    assert found.config is not None
    assert found.family is not None
    return found.family.expectations(found.config)


def release(name: str, **changes: Any) -> Expectations:
    """What an NVFP4 release of DeepSeek implies, with changes to its declaration."""
    sidecar = released(f"hf_quant_config.{name}.json")
    sidecar["quantization"].update(changes)
    return expected(released(f"config.{name}.json"), sidecar)


def totals(expectations: Expectations) -> tuple[int, int, int]:
    """Tensors, elements and bytes, optional ones included."""
    counted = [(expectations.multiplicity(row), row) for row in expectations.layers_of]
    return (
        sum(many for many, _ in counted),
        sum(many * elements(row.shape) for many, row in counted),
        sum(many * packed_bytes(row.dtype, elements(row.shape)) for many, row in counted),
    )


def kinds(expectations: Expectations) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (row.shape, row.dtype) for name, row in expectations.names.items()}


def rows_of(expectations: Expectations, module: str) -> dict[str, Row]:
    """The tensors of a module by the last part of their names."""
    return {
        name.removeprefix(f"{module}."): row
        for name, row in expectations.names.items()
        if name.startswith(f"{module}.")
    }


# --- ModelOpt


def test_v3_1_nvfp4_has_the_published_number_of_tensors_and_elements():
    assert totals(release("deepseek-v3.1-nvfp4"))[:2] == (180_669, 393_632_909_666)


def test_v3_1_nvfp4_quantises_the_output_projection_the_mlps_and_the_experts_of_the_main_model():
    names = release("deepseek-v3.1-nvfp4").names
    codes = {name for name, row in names.items() if row.quantised}
    mlps = ("mlp", "mlp.experts", "mlp.shared_experts")
    of = {"self_attn.o_proj", *(f"{mlp}.{each}_proj" for mlp in mlps for each in ("gate", "up", "down"))}
    found = set()
    for name in codes:
        _, _, layer, *parts = name.removesuffix(".weight").split(".")
        assert int(layer) < 61
        found.add(".".join(part for part in parts if not part.isdigit()))
    assert found == of
    assert len(codes) == 61 + 3 * 3 + 58 * 3 * 257
    assert {row.dtype for name, row in names.items() if name.startswith("model.layers.61.")} == FLOATS


def test_the_parts_of_an_nvfp4_weight_follow_from_its_shape():
    parts = rows_of(release("deepseek-v3.1-nvfp4"), "model.layers.7.mlp.experts.255.down_proj")
    assert {part: (row.shape, row.dtype) for part, row in parts.items()} == {
        "weight": ((7168, 1024), "U8"),
        "weight_scale": ((7168, 128), "F8_E4M3"),
        "weight_scale_2": ((), "F32"),
        "input_scale": ((), "F32"),
    }
    assert parts["weight"].parameters == 7168 * 2048
    assert not any(row.optional for row in parts.values())


def test_the_scales_of_a_cache_belong_to_no_module_and_may_be_absent():
    names = release("deepseek-v3.1-nvfp4").names
    scales = {name for name in names if name.endswith(("k_scale", "v_scale"))}
    assert scales == {f"model.layers.{n}.self_attn.{each}_proj.{each}_scale" for n in range(61) for each in "kv"}
    assert all(names[name].optional and names[name].shape == () for name in scales)
    without = release("deepseek-v3.1-nvfp4", kv_cache_quant_algo=None)
    assert set(names) - set(without.names) == scales


def test_v3_2_nvfp4_leaves_the_indexer_as_it_was_and_may_hold_norms_in_either_dtype():
    names = release("deepseek-v3.2-nvfp4").names
    indexer = {name: row for name, row in names.items() if ".indexer." in name}
    assert len(indexer) == 62 * 5
    assert not any(row.quantised for row in indexer.values())
    norms = {name: row for name, row in names.items() if row.role == "norm"}
    assert {(row.dtype, row.allowed) for row in norms.values()} == {("F32", ("BF16",))}
    assert len(names) == 180_669 + 62 * 5


def test_excluded_modules_are_those_of_the_list_and_no_others():
    entries = released("hf_quant_config.deepseek-v3.1-nvfp4.json")["quantization"]["exclude_modules"]
    before = {name for name, row in release("deepseek-v3.1-nvfp4").names.items() if row.quantised}

    def quantised(exclude: list[str]) -> set[str]:
        names = release("deepseek-v3.1-nvfp4", exclude_modules=exclude).names
        return {name for name, row in names.items() if row.quantised}

    with_mtp = quantised([each for each in entries if each != "model.layers.61*"])
    assert {name.split(".")[2] for name in with_mtp - before} == {"61"}
    assert len(with_mtp - before) == 5 + 3 * 257
    fewer = quantised([*entries, "model.layers.5.*", "o_proj", "re:.*\\.7\\.mlp\\.experts"])
    assert {name for name in before - fewer if "o_proj" not in name} == {
        name for name in before if name.startswith(("model.layers.5.mlp", "model.layers.7.mlp.experts."))
    }
    assert not any("o_proj" in name for name in fewer)
    assert "lm_head.weight" in quantised([each for each in entries if each != "lm_head"])


@pytest.mark.parametrize("algorithm", ["W4A16_NVFP4", "NVFP4"])
def test_weights_alone_have_no_scale_of_activations_unless_they_do(algorithm):
    parts = rows_of(release("deepseek-v3.1-nvfp4", quant_algo=algorithm), "model.layers.0.mlp.up_proj")
    assert parts["input_scale"].optional == (algorithm == "W4A16_NVFP4")


def test_modelopts_fp8_has_one_scale_a_tensor():
    parts = rows_of(release("deepseek-v3.1-nvfp4", quant_algo="FP8"), "model.layers.0.mlp.up_proj")
    assert {part: (row.shape, row.dtype) for part, row in parts.items()} == {
        "weight": ((18432, 7168), "F8_E4M3"), "weight_scale": ((), "F32"), "input_scale": ((), "F32"),
    }  # fmt: skip


def test_of_mixed_precision_each_module_has_its_own_and_the_others_what_the_family_has():
    layers = {
        "model.layers.3.mlp.experts": {"quant_algo": "NVFP4", "group_size": 16},
        "model.layers.4.mlp.experts": {"quant_algo": "W4A16_NVFP4", "group_size": 32},
        "model.layers.0.self_attn.o_proj": {"quant_algo": "FP8"},
    }
    mixed = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers, "exclude_modules": ["re:.*\\.4\\..*down"]}
    names = release("deepseek-v3.1-nvfp4", **mixed).names
    assert names["model.layers.3.mlp.experts.9.up_proj.weight_scale"].shape == (2048, 448)
    assert names["model.layers.4.mlp.experts.9.up_proj.weight_scale"].shape == (2048, 224)
    assert names["model.layers.4.mlp.experts.9.down_proj.weight"].dtype == "BF16"
    assert names["model.layers.0.self_attn.o_proj.weight"].dtype == "F8_E4M3"
    assert {row.dtype for name, row in names.items() if name.endswith(".5.mlp.experts.0.up_proj.weight")} == {"BF16"}
    # Beside FP8 blocks, as V4's export declares it, what has no format of its own keeps these.
    blocks = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    config = {**released("config.deepseek-v3.1-nvfp4.json"), "quantization_config": {**blocks, **mixed}}
    names = expected(config).names
    assert names["model.layers.3.mlp.experts.9.up_proj.weight"].dtype == "U8"
    assert names["model.layers.5.mlp.experts.9.up_proj.weight_scale_inv"].shape == (16, 56)
    assert names["model.layers.4.mlp.experts.9.down_proj.weight_scale_inv"].shape == (56, 16)


# --- compressed-tensors


def kimi(**changes: Any) -> dict:
    """The text model of Kimi-K2.5 as trainers take it for DeepSeek's, with changes to its declaration."""
    config = released("config.kimi-k2.5.json")["text_config"]
    return {
        **config,
        "model_type": "deepseek_v3",
        "quantization_config": {**config["quantization_config"], **changes},
    }


def test_int4_experts_under_deepseeks_model_type_are_kimis_row_by_row():
    prefix = "language_model."
    published = {
        name: (shape, dtype)
        for pattern, shape, dtype in inventory_of("kimi-k2.5")
        if pattern.startswith(prefix)
        for name in expand_runs(pattern.removeprefix(prefix))
    }
    assert kinds(expected(kimi())) == published


def scheme(**weights: Any) -> dict:
    group = kimi()["quantization_config"]["config_groups"]["group_0"]
    return {"config_groups": {"group_0": {**group, "weights": {**group["weights"], **weights}}}}


EXPERT = "model.layers.1.mlp.experts.0.up_proj"  # (2048, 7168)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"format": "nvfp4-pack-quantized", **scheme(type="float", group_size=16)},
            {
                "weight_packed": ((2048, 3584), "U8"), "weight_scale": ((2048, 448), "F8_E4M3"),
                "weight_global_scale": ((1,), "F32"), "input_global_scale": ((1,), "F32"),
            },
        ),
        (
            {"format": "mxfp4-pack-quantized", **scheme(type="float")},
            {"weight_packed": ((2048, 3584), "U8"), "weight_scale": ((2048, 224), "U8")},
        ),
        (
            scheme(symmetric=False, group_size=128),
            {
                "weight_packed": ((2048, 896), "I32"), "weight_scale": ((2048, 56), "BF16"),
                "weight_shape": ((2,), "I32"), "weight_zero_point": ((256, 56), "I32"),
            },
        ),
        (
            scheme(strategy="channel", group_size=None, num_bits=8),
            {
                "weight_packed": ((2048, 1792), "I32"), "weight_scale": ((2048, 1), "BF16"),
                "weight_shape": ((2,), "I32"),
            },
        ),
    ],
)  # fmt: skip
def test_the_formats_of_compressed_tensors_have_their_parts(changes, parts):
    assert {part: (row.shape, row.dtype) for part, row in rows_of(expected(kimi(**changes)), EXPERT).items()} == parts


def test_groups_of_a_declaration_have_their_own_modules():
    group = kimi()["quantization_config"]["config_groups"]["group_0"]
    first = {
        **group,
        "targets": [r"re:.*layers\.(1|2)\.mlp\.experts.*"],
        "weights": {**group["weights"], "group_size": 64},
    }
    names = expected(kimi(config_groups={"a": first, "b": group})).names
    assert names["model.layers.2.mlp.experts.0.up_proj.weight_scale"].shape == (2048, 112)
    assert names["model.layers.3.mlp.experts.0.up_proj.weight_scale"].shape == (2048, 224)


# --- formats of one method


def tiny(**quantization: Any) -> Expectations:
    return expected({**TINY, "quantization_config": quantization})


def linears(expectations: Expectations, part: str) -> Iterator[tuple[Row, tuple[int, int]]]:
    """Every quantised linear layer's row of a part, with the weight's shape."""
    for row in expectations.layers_of:
        if row.quantised:
            stem = row.suffix.rpartition(".")[0]
            assert row.shape_of_weight is not None
            rows, columns = row.shape_of_weight
            for other in expectations.layers_of:
                if other.suffix == f"{stem}.{part}":
                    yield other, (rows, columns)


@pytest.mark.parametrize(
    ("quantization", "shapes"),
    [
        (
            {"quant_method": "awq", "bits": 4, "group_size": 8, "version": "gemm", "zero_point": True},
            {
                "qweight": lambda out, in_: (in_, ceil(out / 8)),
                "qzeros": lambda out, in_: (ceil(in_ / 8), ceil(out / 8)),
                "scales": lambda out, in_: (ceil(in_ / 8), out),
            },
        ),
        (
            {"quant_method": "gptq", "bits": 4, "group_size": -1, "desc_act": True},
            {
                "qweight": lambda out, in_: (ceil(in_ / 8), out),
                "qzeros": lambda out, in_: (1, ceil(out / 8)),
                "scales": lambda out, in_: (1, out),
                "g_idx": lambda out, in_: (in_,),
            },
        ),
        (
            {"quant_method": "blockwise_int8", "weight_block_size": [16, 8]},
            {
                "weight": lambda out, in_: (out, in_),
                "weight_scale_inv": lambda out, in_: (ceil(out / 16), ceil(in_ / 8)),
            },
        ),
    ],
)
def test_formats_of_one_method_store_every_linear_layer(quantization, shapes):
    derived = tiny(**quantization)
    plain = expected(TINY)
    weights = {name for name, row in plain.names.items() if row.linear and name.endswith(".weight")}
    stored = {f"{name.rpartition('.')[0]}.weight" for name, row in derived.names.items() if row.quantised}
    assert stored == weights
    for part, shape in shapes.items():
        found = list(linears(derived, part))
        assert found
        assert all(row.shape == shape(*of) for row, of in found)
    less = tiny(**quantization, modules_to_not_convert=["self_attn", "mlp.experts"])
    assert not any(row.quantised for name, row in less.names.items() if "self_attn" in name or ".experts." in name)


# --- declarations that are wrong, or a stranger's


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"quant_algo": "W4A16_AWQ"}, "quant_algo is 'W4A16_AWQ'"),
        ({"group_size": "16"}, "group_size is '16'"),
        ({"group_size": 0}, "group_size is 0"),
        ({"exclude_modules": "lm_head"}, "exclude_modules is 'lm_head'"),
        ({"exclude_modules": [7]}, "exclude_modules has the entry 7"),
        ({"exclude_modules": ["re:(?=a)"]}, "looks around"),
        ({"quant_algo": "MIXED_PRECISION"}, "quantized_layers is null"),
        ({"quant_algo": "MIXED_PRECISION", "quantized_layers": {"a": 3}}, "quantized_layers has 3"),
        ({"quant_algo": "MIXED_PRECISION", "quantized_layers": {"a": {"quant_algo": "INT9"}}}, "quant_algo is 'INT9'"),
        ({"config_groups": 3}, "config_groups is 3"),
        ({"config_groups": {"a": {"weights": []}}, "group_size": None}, "weights is "),
    ],
)
def test_what_of_a_declaration_cannot_be_read_is_said(changes, why):
    sidecar = released("hf_quant_config.deepseek-v3.1-nvfp4.json")
    sidecar["quantization"].update(changes)
    found = configured(released("config.deepseek-v3.1-nvfp4.json"), sidecar)
    assert found.config is None
    assert why in str(found.unsupported)


def test_a_field_named_as_ours_declares_nothing():
    found = configured({**TINY, "export": {"default": "NVFP4"}, "_export": 3})
    assert found.config is not None
    assert found.config.export is None


def test_a_config_with_another_field_keeps_what_was_declared():
    found = configured(
        released("config.deepseek-v3.1-nvfp4.json"), released("hf_quant_config.deepseek-v3.1-nvfp4.json")
    )
    config = found.config
    assert config is not None
    assert config.model_copy(update={"num_hidden_layers": 3}).export is config.export is not None


def test_the_declaration_beside_is_asked_for_where_config_json_has_none():
    sidecar = released("hf_quant_config.deepseek-v3.1-nvfp4.json")
    blocks = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    config = {**released("config.deepseek-v3.1-nvfp4.json"), "quantization_config": blocks}
    found = configured(config, sidecar).config
    assert found is not None
    assert found.export is None


def test_a_declaration_beside_that_cannot_be_read_leaves_nothing_to_expect():
    unread = ConfigFile("unread", reason="permission denied", code="unreadable")
    file = ConfigFile("read", (DATA / "config.deepseek-v3.1-nvfp4.json").read_bytes())
    found = configure(file, DEFAULT_LIMITS, sidecar=lambda: unread)
    assert (found.config, str(found.over_limit)) == (None, "hf_quant_config.json: permission denied")


def test_rows_change_by_the_rule_with_the_config():
    name, sidecar = "config.deepseek-v3.1-nvfp4.json", released("hf_quant_config.deepseek-v3.1-nvfp4.json")
    changes = {
        "hidden_size": 80, "num_hidden_layers": 3, "n_routed_experts": 16, "num_nextn_predict_layers": 0,
        "first_k_dense_replace": 1,
    }  # fmt: skip
    names = expected({**released(name), **changes}, sidecar).names
    assert names["model.layers.2.mlp.experts.15.up_proj.weight"].shape == (2048, 40)
    assert names["model.layers.2.mlp.experts.15.up_proj.weight_scale"].shape == (2048, 5)
    assert names["model.layers.0.mlp.down_proj.weight"].shape == (80, 9216)
    assert len(names) == 3 + 3 * (2 + 2 + 4 + 4 + 2) + 3 * 4 + 2 * (2 + 17 * 3 * 4)
