"""Parameters of released configs that no shape shows, by the sizes of the release. They are data: releases.json."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from msgspec import Struct

# What tensors' shapes and numbers follow from; a release is one that has all of these alike.
SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim",
    "qk_rope_head_dim", "v_head_dim", "head_dim", "n_routed_experts", "num_experts", "num_local_experts",
    "n_shared_experts", "first_k_dense_replace", "index_n_heads", "index_head_dim", "o_lora_rank",
)  # fmt: skip
# What a computation follows from.
PARAMETERS = (
    "rms_norm_eps", "layernorm_epsilon", "scoring_func", "routed_scaling_factor", "norm_topk_prob",
    "num_experts_per_tok", "n_group", "topk_group", "hidden_act",
)  # fmt: skip
_ROPE = ("type", "rope_type", "rope_theta")


class Release(Struct, frozen=True):
    """A release's sizes and parameters, as its config.json has them."""

    name: str
    sizes: Mapping[str, Any]
    parameters: Mapping[str, Any]


def layout_of(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of config.json that a text model's sizes stand in."""
    nested = fields.get("text_config")
    return nested if isinstance(nested, dict) and "hidden_size" in nested else fields


def parameters(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a config gives; what it says of rope in whichever of two ways, in one."""
    layout = layout_of(fields)
    given = {name: layout[name] for name in PARAMETERS if layout.get(name) is not None}
    rope = layout.get("rope_parameters") or {}
    scaling = layout.get("rope_scaling") or rope
    if not isinstance(rope, dict) or not isinstance(scaling, dict):
        return given
    theta = layout.get("rope_theta", rope.get("rope_theta"))
    if theta is not None:
        given["rope_theta"] = theta
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    scaled = {name: value for name, value in scaling.items() if name not in _ROPE}
    given["rope_scaling"] = None if kind == "default" and "factor" not in scaled else {"type": kind, **scaled}
    return given


@cache
def releases() -> Sequence[Release]:
    """Every release whose config is known."""
    text = resources.files("auditor.families").joinpath("releases.json").read_text("utf-8")
    return [Release(each["name"], each["sizes"], each["parameters"]) for each in json.loads(text)]


def releases_like(fields: Mapping[str, Any]) -> list[Release]:
    """The releases that a config has every size of."""
    layout = layout_of(fields)
    sizes = {name: layout[name] for name in SIZES if name in layout}
    return [release for release in releases() if release.sizes == sizes]


def is_uncorrected(fields: Mapping[str, Any]) -> bool:
    """Whether routers correct scores by a bias that they compute in a way it is not trained for."""
    layout = layout_of(fields)
    return layout.get("topk_method") == "noaux_tc" and layout.get("scoring_func") == "softmax"
