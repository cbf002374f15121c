"""DeepSeek-V3.2, GLM-5, MiniMax-M2 and Qwen3-MoE hold what transformers' classes hold, in the form that these save.

Newer versions fuse experts and rename modules; what they undo when they save is undone here in their own way. Where the
version that is installed lacks a class or that way, a test is skipped. Written against 5.24.
"""

import importlib.util
from typing import Any

import pytest
import torch
import transformers

from auditor import audit
from tests.families import test_glm_moe_dsa, test_minimax_m2, test_qwen3_moe
from tests.families.tables import config_of, expected
from tests.families.test_reference_transformers import TINY

NAMES = {
    "deepseek_v3": "DeepseekV3",
    "deepseek_v32": "DeepseekV32",
    "glm_moe_dsa": "GlmMoeDsa",
    "minimax_m2": "MiniMaxM2",
    "qwen3_moe": "Qwen3Moe",
}
V3 = {**TINY, "model_type": "deepseek_v3"}
V32 = {**TINY, "model_type": "deepseek_v32", "index_n_heads": 3, "index_head_dim": 8}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "DeepSeek-V3.2": (V32, {}),
    "DeepSeek-V3.2, three shared experts": (V32, {"n_shared_experts": 3, "first_k_dense_replace": 2}),
    "DeepSeek-V3.2, odd sizes": (V32, {"hidden_size": 33, "kv_lora_rank": 15, "index_head_dim": 12, "v_head_dim": 11}),
    "GLM-5": (test_glm_moe_dsa.SMALL, {}),
    "GLM-5, shared indexers": (test_glm_moe_dsa.SMALL, test_glm_moe_dsa.SHARED),
    "GLM-5, a pattern of indexers": (test_glm_moe_dsa.SMALL, {"index_topk_pattern": "FSSFS"}),
    "GLM-5, a frequency of indexers": (
        test_glm_moe_dsa.SMALL,
        {"index_topk_freq": 3, "index_skip_topk_offset": 1},
    ),
    "GLM-5, three dense layers": (test_glm_moe_dsa.SMALL, {"first_k_dense_replace": 3}),
    "GLM-5, two shared experts": (test_glm_moe_dsa.SMALL, {"n_shared_experts": 2}),
    "MiniMax-M2": (test_minimax_m2.SMALL, {}),
    "MiniMax-M2, odd sizes": (
        test_minimax_m2.SMALL,
        {"hidden_size": 33, "head_dim": 14, "intermediate_size": 7, "num_local_experts": 5},
    ),
    "Qwen3-MoE": (test_qwen3_moe.SMALL, {}),
    "Qwen3-MoE, every second layer dense": (test_qwen3_moe.SMALL, {"decoder_sparse_step": 2}),
    "Qwen3-MoE, one layer dense": (test_qwen3_moe.SMALL, {"mlp_only_layers": [2]}),
    "Qwen3-MoE, with biases": (test_qwen3_moe.SMALL, {"attention_bias": True}),
}


def agrees(fields: dict[str, Any]) -> None:
    """Without quantisation and MTP, which the reference leaves out."""
    fields = {**fields, "num_nextn_predict_layers": 0, "quantization_config": None}
    theirs = stored(fields)
    ours = {name: row.shape for name, row in expected(fields).names.items()}
    assert ours == theirs


def reference(model_type: str) -> tuple[Any, Any]:
    """The config and the model class of the reference."""
    stem = NAMES[model_type]
    if not hasattr(transformers, f"{stem}ForCausalLM"):
        pytest.skip(f"transformers {transformers.__version__} has no {stem}ForCausalLM")
    if importlib.util.find_spec("transformers.core_model_loading") is None:
        pytest.skip(f"transformers {transformers.__version__} does not say how it converts what it loads")
    return getattr(transformers, f"{stem}Config"), getattr(transformers, f"{stem}ForCausalLM")


def stored(fields: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what the reference would save."""
    config, model_class = reference(fields["model_type"])
    from transformers.core_model_loading import revert_weight_conversion

    given = {name: value for name, value in fields.items() if value is not None}
    given.setdefault("num_key_value_heads", fields["num_attention_heads"])
    with torch.device("meta"):
        model = model_class(config(**given))
    state = revert_weight_conversion(model, model.state_dict())
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes_are_those_that_the_reference_saves(variant):
    fields, changes = VARIANTS[variant]
    agrees({**fields, **changes})


@pytest.mark.parametrize("fields", [V3, V32, test_glm_moe_dsa.SMALL], ids=["V3", "V3.2", "GLM-5"])
def test_routers_that_the_reference_keeps_in_float32_are_a_note(fields, tmp_path):
    config, model_class = reference(fields["model_type"])
    plain = {**fields, "num_nextn_predict_layers": 0, "quantization_config": None}
    given = {name: value for name, value in plain.items() if value is not None}
    given.setdefault("num_key_value_heads", fields["num_attention_heads"])
    model_class(config(**given)).save_pretrained(tmp_path / "float32")
    model_class.from_pretrained(tmp_path / "float32", dtype=torch.bfloat16).save_pretrained(tmp_path / "bfloat16")
    report = audit(tmp_path / "bfloat16")
    assert report.verdict == "passed"
    [note] = [each for each in report.findings if each.rule == "SHP107"]
    assert note.location.tensor.endswith("mlp.gate.weight")
    # V3.2's norms are F32 in the release, and lose precision here.
    told = {"SHP107", "SHP103"} if fields is V32 else {"SHP107"}
    assert {each.rule for each in report.findings} == told


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deepseek-v3.2", "glm-5.1", "glm-5.2", "minimax-m2.7", "qwen3-30b-a3b-fp8"])
def test_the_full_model_is_the_reference_tensor_by_tensor(name):
    agrees({key: value for key, value in config_of(name).items() if key != "auto_map"})
