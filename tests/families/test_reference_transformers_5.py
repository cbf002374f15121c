"""GLM-5, MiniMax-M2 and Qwen3-MoE hold what transformers' own classes hold, in the form in which these are saved.

Newer versions fuse experts and rename modules; what they undo when they save is undone here in their own way. Where the
version that is installed lacks a class or that way, a test is skipped. Written against 5.24.
"""

import importlib.util
from typing import Any

import pytest
import torch
import transformers

from tests.families import test_glm_moe_dsa, test_minimax_m2, test_qwen3_moe
from tests.families.tables import config_of, expected

NAMES = {"glm_moe_dsa": "GlmMoeDsa", "minimax_m2": "MiniMaxM2", "qwen3_moe": "Qwen3Moe"}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
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


def stored(fields: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what the reference would save."""
    stem = NAMES[fields["model_type"]]
    if not hasattr(transformers, f"{stem}ForCausalLM"):
        pytest.skip(f"transformers {transformers.__version__} has no {stem}ForCausalLM")
    if importlib.util.find_spec("transformers.core_model_loading") is None:
        pytest.skip(f"transformers {transformers.__version__} does not say how it converts what it loads")
    from transformers.core_model_loading import revert_weight_conversion

    given = {name: value for name, value in fields.items() if value is not None}
    given.setdefault("num_key_value_heads", fields["num_attention_heads"])
    with torch.device("meta"):
        model = getattr(transformers, f"{stem}ForCausalLM")(getattr(transformers, f"{stem}Config")(**given))
    state = revert_weight_conversion(model, model.state_dict())
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes_are_those_that_the_reference_saves(variant):
    fields, changes = VARIANTS[variant]
    agrees({**fields, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glm-5.1", "glm-5.2", "minimax-m2.7", "qwen3-30b-a3b-fp8"])
def test_the_full_model_is_the_reference_tensor_by_tensor(name):
    agrees({key: value for key, value in config_of(name).items() if key != "auto_map"})
