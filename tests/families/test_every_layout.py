"""Every row of every layout changes by its rule where sizes, layers, experts or schedules of the config change.

What a config means is written down a second time in sheets.py. Shapes of codes and of what stands beside them are
worked out here, by format.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from math import ceil
from typing import Any

import pytest

from auditor.families import Family, families
from auditor.families.configure import configure
from auditor.families.expectations import Expectations
from auditor.forge import LIKES
from auditor.forge.plan import _document, _file
from auditor_schemas.policy import Limits
from tests.families.sheets import SHEETS, written
from tests.families.test_every_release import TOTALS, with_few_experts

# A dimension of 2^24 is the most that there may be, and what a tower gives must be as wide as the model.
SIZES = (
    "vocab_size", "hidden_size", "num_attention_heads", "num_key_value_heads", "q_lora_rank", "kv_lora_rank",
    "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "head_dim", "swa_num_attention_heads",
    "swa_num_key_value_heads", "swa_head_dim", "swa_v_head_dim", "intermediate_size", "moe_intermediate_size",
    "n_shared_experts", "num_shared_experts", "routed_expert_hidden_size", "index_n_heads", "index_head_dim",
    "index_kpool", "o_groups", "o_lora_rank", "hc_mult", "dspark_markov_rank", "engram_head_dim", "engram_n_heads",
    "linear_num_heads", "linear_head_dim", "linear_conv_kernel_dim",
)  # fmt: skip
EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts", "dspark_n_routed_experts")
LINEAR, SPARSE = "linear_attention", "deepseek_sparse_attention"


def fields_of(like: str) -> dict[str, Any]:
    """The config of a release with few experts, without towers and without fields that repeat what others say."""
    fields = with_few_experts(deepcopy({**_document(LIKES[like].config), **LIKES[like].changes}))
    for said_twice in ("mlp_layer_types", *(["linear_attn_config"] if "linear_num_heads" in inside(fields) else [])):
        inside(fields).pop(said_twice, None)
    return {name: value for name, value in fields.items() if name not in ("vision_config", "audio_config", "auto_map")}


def inside(fields: dict[str, Any]) -> dict[str, Any]:
    """The object that has the fields of the layout."""
    text: dict[str, Any] = fields.get("text_config", fields)
    return text


def derived(like: str, fields: dict[str, Any]) -> tuple[Family, Expectations]:
    sidecar = LIKES[like].sidecar
    found = configure(_file(fields), Limits(), sidecar=lambda: _file(None if sidecar is None else _document(sidecar)))
    assert not found.faults, found.faults
    assert found.family is not None
    assert found.config is not None
    return found.family, found.family.expectations(found.config)


def up(dividend: int, divisor: int) -> int:
    return ceil(dividend / divisor)


def beside(codes: str, block: tuple[int, int], chunks: int) -> dict[str, Callable[[int, int], tuple[int, ...]]]:
    """By the last parts of names, the shapes of codes and their companions for a weight of so many rows and columns."""
    rows, columns = block
    grid = lambda o, i: (chunks * up(o // chunks, rows), up(i, columns))  # noqa: E731 (one line of a table)
    return {
        "FP8": {"weight": lambda o, i: (o, i), "weight_scale_inv": grid},
        "FP8 of V4": {"weight": lambda o, i: (o, i), "scale": grid},
        "FP4 of V4": {"weight": lambda o, i: (o, up(i, 2)), "scale": lambda o, i: (o, up(i, 32))},
        "NVFP4": {
            "weight": lambda o, i: (o, up(i, 2)), "weight_scale": lambda o, i: (o, up(i, 16)),
            "weight_scale_2": lambda o, i: (), "input_scale": lambda o, i: (),
        },
        "MXFP4": {"weight_packed": lambda o, i: (o, up(i, 2)), "weight_scale": lambda o, i: (o, up(i, 32))},
        "INT4": {
            "weight_packed": lambda o, i: (o, up(i, 8)), "weight_scale": lambda o, i: (o, up(i, 32)),
            "weight_shape": lambda o, i: (2,),
        },
    }[codes]  # fmt: skip


FORMATS = {
    ("F8_E4M3", "weight_scale_inv"): "FP8",
    ("F8_E4M3", "scale"): "FP8 of V4",
    ("I8", "scale"): "FP4 of V4",
    ("U8", "weight_scale weight_scale_2 input_scale"): "NVFP4",
    ("U8", "weight_scale"): "MXFP4",
    ("I32", "weight_scale weight_shape"): "INT4",
}


def stored(weights: dict[str, tuple[int, ...]], found: Expectations, text: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The weights of a sheet as they are stored, each in the format that was chosen for it."""
    codes = {name.rpartition(".")[0]: row for name, row in found.names.items() if row.quantised}
    block = tuple((text.get("quantization_config") or {}).get("weight_block_size", (0, 0)))
    for name, shape in weights.items():
        stem, _, last = name.rpartition(".")
        row = codes.get(stem)
        if row is None or last != "weight":
            yield name, shape
            continue
        assert row.quantiser is not None
        kind = FORMATS[row.dtype, " ".join(each.name.replace("*", "weight") for each in row.quantiser.companions)]
        chunks = text["num_key_value_heads"] if last == "weight" and ".qkv_proj." in name else 1
        for part, of in beside(kind, (1, 32) if ".engram.embed." in name else block, chunks).items():
            yield f"{stem}.{part}", of(*shape)


def agrees(like: str, fields: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The sheet's tensors, which are those that were derived."""
    family, found = derived(like, fields)
    text = {"quantization_config": fields.get("quantization_config"), **inside(fields)}
    name = family.name
    if name == "deepseek-v4" and text.get("dspark_block_size"):
        name += ", with DSpark"
    weights = written(name, text)
    ours = {each: row.shape for each, row in found.names.items() if not row.optional or row.role == "vocabulary"}
    assert ours == dict(stored(weights, found, text))
    return weights


@pytest.mark.parametrize("like", TOTALS)
def test_each_size_changes_the_shapes_that_it_is_part_of_and_no_other(like):
    fields = fields_of(like)
    before = agrees(like, fields)
    for name in SIZES:
        if inside(fields).get(name):
            changed = deepcopy(fields)
            inside(changed)[name] *= 2
            assert agrees(like, changed).keys() == before.keys(), name
    for name in ("num_heads", "head_dim", "short_conv_kernel_size"):
        changed = deepcopy(fields)
        if linear := inside(changed).get("linear_attn_config"):
            linear[name] *= 2
            assert agrees(like, changed) != before, name


@pytest.mark.parametrize("like", TOTALS)
def test_more_experts_are_further_names_and_a_wider_router(like):
    fields = fields_of(like)
    before = agrees(like, fields)
    counts = [name for name in EXPERTS if inside(fields).get(name)]
    for name in dict.fromkeys((counts[0], *(each for each in counts if each.startswith("dspark")))):
        changed = deepcopy(fields)
        inside(changed)[name] *= 2
        after = agrees(like, changed)
        come = after.keys() - before.keys()
        assert come
        assert all(".experts." in each for each in come)
        assert before.keys() <= after.keys()


def lengthened(text: dict[str, Any]) -> None:
    """One layer more, like the last one of the main model, in every list that has an entry for each layer."""
    layers = text["num_hidden_layers"]
    text["num_hidden_layers"] = layers + 1
    for name, value in text.items():
        if isinstance(value, list) and len(value) == layers:
            value.append(value[-1])
        elif name == "compress_ratios":
            value.insert(layers, value[layers - 1])
    linear = text.get("linear_attn_config") or {}
    for name in ("full_attn_layers", "kda_layers"):  # numbered from 1
        if layers in linear.get(name, ()):
            linear[name].append(layers + 1)


@pytest.mark.parametrize("like", TOTALS)
def test_one_layer_more_is_like_the_last_one(like):
    fields = fields_of(like)
    before = agrees(like, fields)
    lengthened(inside(fields))
    after = agrees(like, fields)
    layers = inside(fields)["num_hidden_layers"]
    assert after.keys() - before.keys()
    last, new = (
        {name.partition(f"layers.{n}.")[2]: shape for name, shape in after.items() if f"layers.{n}." in name}
        for n in (layers - 2, layers - 1)
    )
    assert new == last


SCHEDULES: dict[str, list[Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "v3": [
        lambda c: {"first_k_dense_replace": 5},
        lambda c: {"moe_layer_freq": 4},
        lambda c: {"num_nextn_predict_layers": 3},
    ],
    "v3.2": [lambda c: {"first_k_dense_replace": 0, "moe_layer_freq": 3}, lambda c: {"num_nextn_predict_layers": 0}],
    "glm-5.2-fp8": [
        lambda c: {"first_k_dense_replace": 7},
        lambda c: {"indexer_types": ["full", *c["indexer_types"][:0:-1]]},
        lambda c: {"num_nextn_predict_layers": 2},
    ],
    "kimi-k2": [lambda c: {"first_k_dense_replace": 4}, lambda c: {"moe_layer_freq": 2}],
    "kimi-k2.5": [lambda c: {"first_k_dense_replace": 4}, lambda c: {"moe_layer_freq": 2}],
    "qwen3-30b-fp8": [
        lambda c: {"decoder_sparse_step": 3},
        lambda c: {"mlp_only_layers": [2, 5, 47]},
        lambda c: {"decoder_sparse_step": 2, "mlp_only_layers": [1, 2, 3]},
    ],
    "mimo-v2.5-pro": [
        lambda c: {"hybrid_layer_pattern": [1 - each for each in c["hybrid_layer_pattern"]]},
        lambda c: {"moe_layer_freq": [n % 3 % 2 for n in range(c["num_hidden_layers"])]},
    ],
    "mimo-v2.5": [lambda c: {"hybrid_layer_pattern": c["hybrid_layer_pattern"][::-1]}],
    "kimi-k3": [
        lambda c: {"first_k_dense_replace": 3},
        lambda c: {"moe_layer_freq": 2},
        lambda c: {
            "linear_attn_config": {
                **c["linear_attn_config"],
                "full_attn_layers": c["linear_attn_config"]["kda_layers"],
                "kda_layers": c["linear_attn_config"]["full_attn_layers"],
            }
        },
    ],
    "glm-5.3-flash-fp8": [
        lambda c: {"layer_types": [SPARSE if each == LINEAR else LINEAR for each in c["layer_types"]]},
        lambda c: {"indexer_types": ["full" if n % 8 == 3 else "shared" for n in range(45)]},
        lambda c: {"first_k_dense_replace": 9},
    ],
    "v4-flash": [
        lambda c: {"num_hash_layers": 9},
        lambda c: {"compress_ratios": [4, 128, 0, *c["compress_ratios"][3:]]},
        lambda c: {"compress_ratios": c["compress_ratios"][:-1], "num_nextn_predict_layers": 1},
    ],
    "v4-flash-preview": [lambda c: {"num_hash_layers": 0}, lambda c: {"compress_ratios": [*c["compress_ratios"], 0]}],
    "v4.1-flash": [
        lambda c: {"kv_source_layer_ids": [3, 9, 25], "index_source_layer_ids": [3, 9, 25, 31]},
        lambda c: {"engram_layer_ids": [0, 7]},
        lambda c: {"engram_layer_ids": [5], "engram_num_embeddings": [1000], "hc_mult": 3},
    ],
    "v3.1-nvfp4": [lambda c: {"first_k_dense_replace": 5}],
    "glm-5.2-nvfp4": [lambda c: {"indexer_types": ["full"] * 78}],
    "glm-5.3-flash-nvfp4": [lambda c: {"layer_types": [SPARSE] * 45}],
}


@pytest.mark.parametrize(("like", "number"), [(like, n) for like, each in SCHEDULES.items() for n in range(len(each))])
def test_another_schedule_gives_each_layer_what_its_kind_has(like, number):
    fields = fields_of(like)
    before = agrees(like, fields)
    inside(fields).update(SCHEDULES[like][number](inside(fields)))
    assert agrees(like, fields) != before


def test_every_family_is_written_down():
    assert {name for name, each in families().items() if each.expects} <= SHEETS.keys()
