"""What the auditor derives from config.json is what the reference implementation in transformers builds from it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

from auditor.comparison.count import conventions, tally
from auditor.comparison.match import match, take_census
from auditor.families import family_named
from auditor.families.configure import configure
from auditor.inventory.facts import Inventory
from auditor.inventory.walk import read_config, walk
from auditor.sources.folder import Folder
from auditor_schemas.policy import Limits

DATA = Path(__file__).parents[1] / "data"
V3 = json.loads((DATA / "config.deepseek-v3.json").read_text())
FAMILY = family_named("deepseek-v3")
LIMITS = Limits()

TINY = {
    "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 2,
    "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 12,
    "intermediate_size": 48, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "n_routed_experts": 8,
    "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "attention_bias": False,
    "tie_word_embeddings": False,
}  # fmt: skip

VARIANTS = {
    "as released": {},
    "without a query rank": {"q_lora_rank": None},
    "with attention bias": {"attention_bias": True},
    "with attention bias, without a query rank": {"attention_bias": True, "q_lora_rank": None},
    "tied": {"tie_word_embeddings": True},
    "three shared experts": {"n_shared_experts": 3},
    "dense throughout": {"first_k_dense_replace": 4},
    "experts throughout": {"first_k_dense_replace": 0},
    "two dense layers": {"first_k_dense_replace": 2},
    "odd sizes": {"vocab_size": 97, "hidden_size": 33, "intermediate_size": 47, "kv_lora_rank": 15, "v_head_dim": 11},
    "wide values": {"v_head_dim": 20, "num_attention_heads": 3, "num_key_value_heads": 3},
}


def built(fields: dict) -> DeepseekV3ForCausalLM:
    with torch.device("meta"):
        return DeepseekV3ForCausalLM(DeepseekV3Config(**fields))


def expectations_of(fields: dict):
    """Without quantisation and MTP, which the reference implementation leaves out."""
    plain = {**fields, "model_type": "deepseek_v3", "quantization_config": None, "num_nextn_predict_layers": 0}
    config = FAMILY.config.model_validate(plain)
    return config, FAMILY.expectations(config)


def stored_shapes(model: DeepseekV3ForCausalLM) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what is stored: a tied head is in the state dict as well, but stored once."""
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def agrees(fields: dict) -> None:
    model = built(fields)
    config, expectations = expectations_of(fields)
    assert {name: row.shape for name, row in expectations.names.items()} == stored_shapes(model)
    # The correction bias is a buffer there and a parameter in the published count.
    parameters = sum(p.numel() for p in model.parameters())
    biases = sum(b.numel() for name, b in model.named_buffers() if name.endswith("e_score_correction_bias"))
    nothing = Inventory(())
    found = tally(nothing, expectations, take_census(nothing, expectations))
    counts = conventions({name: expected for name, (expected, _) in found.components.items()}, 0, config)
    assert counts["main_total"] == parameters + biases


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_shapes_and_parameters_are_those_of_the_reference(variant):
    agrees({**TINY, **VARIANTS[variant]})


@pytest.mark.slow
def test_the_full_671b_model_is_the_reference_tensor_by_tensor():
    agrees({name: value for name, value in V3.items() if name not in ("quantization_config", "auto_map")})


# --- files that the reference writes


def audited(folder: Path):
    source = Folder(str(folder), symlinks="follow")
    configuration = configure(read_config(source, LIMITS), LIMITS)
    assert configuration.faults == ()
    inventory = walk(source, LIMITS)
    assert inventory.complete
    assert not any(shard.faults for shard in inventory.shards)
    expectations = configuration.family.expectations(configuration.config)
    return inventory, match(inventory, expectations, take_census(inventory, expectations))


def saved(folder: Path, fields: dict, **options: object) -> None:
    torch.manual_seed(0)
    DeepseekV3ForCausalLM(DeepseekV3Config(**fields)).to(torch.bfloat16).save_pretrained(folder, **options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_model_holds_what_its_config_says(tmp_path, variant):
    saved(tmp_path, {**TINY, **VARIANTS[variant]})
    inventory, found = audited(tmp_path)
    assert inventory.index is None
    assert not found.missing
    assert not found.unexpected
    assert not found.misshapen
    # A cast of the whole model takes the correction bias along, which the published format keeps in F32.
    assert set(found.mistyped) == {name for name in inventory.tensors if name.endswith(".e_score_correction_bias")}
    assert all(inventory.tensors[name].dtype == "BF16" for name in found.mistyped)


def test_a_model_saved_in_shards_has_an_index_that_agrees(tmp_path):
    saved(tmp_path, TINY, max_shard_size="40KB")
    inventory, found = audited(tmp_path)
    assert len(inventory.shards) > 3
    assert inventory.index is not None
    assert inventory.index.state == "read"
    assert {name: shard.path for shard in inventory.shards for name in shard.tensors} == inventory.index.weight_map
    assert inventory.index.total_size == inventory.payload_bytes
    assert not found.missing
    assert not found.unexpected
    assert not found.misshapen
    assert all(shard.metadata == {"format": "pt"} for shard in inventory.shards)


def test_a_model_saved_in_float32_has_every_dtype_right(tmp_path):
    DeepseekV3ForCausalLM(DeepseekV3Config(**TINY)).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"
    assert audited(tmp_path)[1].faults == 0


def test_a_saved_model_that_claims_an_mtp_module_lacks_it(tmp_path):
    # The reference implementation keeps the config's field and drops the module: every save of it is such a checkpoint.
    saved(tmp_path, {**TINY, "num_nextn_predict_layers": 1})
    _, found = audited(tmp_path)
    assert list(found.missing_layers) == [4]
    assert set(found.missing) == set(found.missing_layers[4])
    assert not found.unexpected


def test_a_quantised_checkpoint_written_with_safetensors_is_sound(tmp_path):
    fields = {
        **TINY, "model_type": "deepseek_v3", "num_nextn_predict_layers": 1, "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 16]},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(fields))
    expectations = FAMILY.expectations(FAMILY.config.model_validate(fields))
    dtypes = {"F8_E4M3": torch.float8_e4m3fn, "BF16": torch.bfloat16, "F32": torch.float32}
    tensors = {name: torch.zeros(row.shape, dtype=dtypes[row.dtype]) for name, row in expectations.names.items()}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    inventory, found = audited(tmp_path)
    assert len(inventory.tensors) == len(tensors)
    assert found.faults == 0
    for name, tensor in tensors.items():
        begin, end = inventory.shards[0].span(name)
        assert end - begin == tensor.numel() * tensor.element_size()
