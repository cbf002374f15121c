"""Exports of other families than DeepSeek-V3's are derived as published, tensor by tensor or by their totals."""

import json
from typing import Any

import pytest

from tests.families.tables import DATA, table_of
from tests.families.test_exports import expected, totals

# By tensors, stored elements and payload bytes; sources: the sizes that the hub lists.
TABLES = {
    "glm-5.2-nvfp4": (232_385, 436_240_673_280, 464_795_267_072),
    "glm-5.3-flash-nvfp4": (147_661, 187_947_382_512, 204_419_115_456),
}


def config_of(name: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((DATA / f"config.{name}.json").read_text())
    return fields


@pytest.mark.parametrize("name", TABLES)
def test_an_export_is_derived_tensor_by_tensor(name):
    published = table_of(name)
    names = expected(config_of(name)).names
    assert {each for each, row in names.items() if not row.optional} <= published.keys() <= names.keys()
    assert {each: (names[each].shape, names[each].dtype) for each in published} == published
    assert len(published) == TABLES[name][0]


@pytest.mark.parametrize(
    ("name", "tensors", "elements", "size"),
    [
        *((name, *figures) for name, figures in TABLES.items()),
        # Of these the number of tensors alone was worked out from what is known of the release.
        ("kimi-k2.6-nvfp4", 277_670, None, None),
        ("deepseek-v4-flash-nvfp4", 135_235, None, None),
    ],
)
def test_an_export_has_its_number_of_tensors(name, tensors, elements, size):
    expectations = expected(config_of(name))
    optional = [row for row in expectations.layers_of if row.optional]
    more = sum(map(expectations.multiplicity, optional))
    found = totals(expectations)
    assert found[0] - more == tensors
    assert elements in (None, found[1] - more)
    assert size in (None, found[2] - 4 * more)
    assert {row.suffix for row in optional} <= {"self_attn.k_proj.k_scale", "self_attn.v_proj.v_scale"}


def test_kimi_k2_6_nvfp4_quantises_routed_experts_alone():
    names = expected(config_of("kimi-k2.6-nvfp4")).names
    codes = {name for name, row in names.items() if row.quantised}
    assert len(codes) == 60 * 384 * 3
    assert all(".mlp.experts." in name for name in codes)


def test_what_v4s_export_leaves_out_keeps_v4s_own_formats():
    names = expected(config_of("deepseek-v4-flash-nvfp4")).names
    kinds = {
        name: (names[name].dtype, *(names[name].quantiser.required(name) if names[name].quantiser else ()))
        for name in (
            "layers.7.ffn.experts.3.w1.weight", "mtp.0.ffn.experts.3.w1.weight", "layers.7.attn.wq_a.weight",
            "layers.7.ffn.shared_experts.w1.weight", "head.weight",
        )
    }  # fmt: skip
    expert, mtp = "layers.7.ffn.experts.3.w1", "mtp.0.ffn.experts.3.w1"
    assert kinds == {
        f"{expert}.weight": ("U8", f"{expert}.weight_scale", f"{expert}.weight_scale_2", f"{expert}.input_scale"),
        f"{mtp}.weight": ("I8", f"{mtp}.scale"),
        "layers.7.attn.wq_a.weight": ("F8_E4M3", "layers.7.attn.wq_a.scale"),
        "layers.7.ffn.shared_experts.w1.weight": ("F8_E4M3", "layers.7.ffn.shared_experts.w1.scale"),
        "head.weight": ("BF16",),
    }


def test_a_list_without_the_mtp_layer_makes_it_nvfp4():
    """As GLM-5.3-Flash was first exported: 132 entries instead of 134."""
    config = config_of("glm-5.3-flash-nvfp4")
    ignored = config["quantization_config"]["ignore"]
    config["quantization_config"]["ignore"] = [each for each in ignored if "layers.45" not in each]
    assert len(config["quantization_config"]["ignore"]) == 132
    names = expected(config).names
    layer = {
        name for name, row in names.items() if row.quantised and name.startswith("model.language_model.layers.45.")
    }
    assert {name.removesuffix(".weight").rpartition(".")[2] for name in layer} >= {"gate_proj", "q_a_proj", "wq_b"}
    assert len(layer) == 288 * 3 + 3 + 5 + 2
