"""Breaks of config.json: its bytes, its fields, and fields that the tensors contradict."""

import json
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from auditor.families.releases import releases_like
from auditor.forge.breaks import Break, breaks_as
from auditor.forge.convert import unquantise
from auditor.forge.plan import Plan
from auditor.patterns import layer_of
from auditor_schemas.rule import Severity


def _text(name: str, title: str, edit: Callable[[bytes], bytes | None], *, rule: str = "CFG102") -> Break:
    def apply(plan: Plan) -> None:
        plan.edit_config = edit

    return breaks_as(name, title, rule)(apply)


def _field(
    name: str, title: str, rule: str | None, change: Callable[[dict[str, Any]], dict[str, Any]], **options: Any
) -> Break:
    def apply(plan: Plan) -> None:
        plan.config.update(change(plan.config))

    return breaks_as(name, title, rule, **options)(apply)


def _without(name: str, title: str, rule: str, field: str) -> Break:
    def apply(plan: Plan) -> None:
        del plan.config[field]

    return breaks_as(name, title, rule)(apply)


missing_config = _text("missing-config", "config.json is not there", lambda _: None, rule="CFG101")

config_not_json = _text("config-not-json", "config.json breaks off in the middle", lambda raw: raw[: len(raw) // 2])
config_not_an_object = _text("config-not-an-object", "config.json is an array", lambda raw: b"[" + raw + b"]")
config_not_utf8 = _text(
    "config-not-utf8", "config.json holds a Latin-1 letter", lambda raw: raw.replace(b'"silu"', b'"sil\xfc"', 1)
)
config_pointer = _text(
    "config-git-lfs-pointer",
    "config.json is a git-lfs pointer",
    lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1727\n",
)
config_marked = _text(
    "config-byte-order-mark", "config.json begins with a byte order mark", lambda raw: b"\xef\xbb\xbf" + raw
)
config_duplicate_key = _text(
    "config-duplicate-key",
    "config.json has vocab_size twice",
    # Parsers keep the last silently; the auditor goes on with the first, which is the right one here.
    lambda raw: raw.rstrip()[:-1].rstrip() + b',\n  "vocab_size": 32000\n}\n',
)
config_nested_deeply = _text(
    "config-nested-deeply",
    "config.json nests 100,000 arrays",
    lambda raw: raw.replace(b"{", b'{\n  "nested": ' + b"[" * 100_000 + b"]" * 100_000 + b",", 1),
)

negative_field = _field("config-negative-field", "hidden_size is negative", "CFG103", lambda _: {"hidden_size": -7168})
fractional_field = _field(
    "config-fractional-field",
    "num_hidden_layers is a float",
    "CFG103",
    lambda config: {"num_hidden_layers": float(config["num_hidden_layers"])},
)
text_field = _field(
    "config-text-field", "vocab_size is a string", "CFG103", lambda config: {"vocab_size": str(config["vocab_size"])}
)
true_field = _field("config-boolean-field", "n_shared_experts is true", "CFG103", lambda _: {"n_shared_experts": True})
missing_field = _without("config-missing-field", "kv_lora_rank is not there", "CFG103", "kv_lora_rank")
null_field = _field(
    "config-null-field", "moe_intermediate_size is null", "CFG104", lambda _: {"moe_intermediate_size": None}
)
giant_field = _field(
    "config-giant-field", "num_hidden_layers is a billion", "CFG103", lambda _: {"num_hidden_layers": 10**9}
)
missing_model_type = _without("config-missing-model-type", "model_type is not there", "CFG103", "model_type")

too_many_per_token = _field(
    "too-many-experts-per-token",
    "num_experts_per_tok is more than n_routed_experts",
    "CFG104",
    # One group, so that the number of reachable experts is not a second contradiction.
    lambda config: {"num_experts_per_tok": config["n_routed_experts"] + 1, "n_group": None, "topk_group": None},
)
uneven_groups = _field(
    "uneven-expert-groups",
    "n_group is no divisor of n_routed_experts",
    "CFG104",
    lambda config: {"n_group": config["n_group"] + 1},
)
two_dtypes = _field("two-dtypes", "dtype contradicts torch_dtype", "CFG104", lambda _: {"dtype": "float16"})
more_dense_than_layers = _field(
    "more-dense-layers-than-layers",
    "first_k_dense_replace is more than num_hidden_layers, the tensors have MoE layers",
    "CFG107",
    lambda config: {"first_k_dense_replace": config["num_hidden_layers"] + 1},
)


def _quantization(name: str, title: str, changes: dict[str, Any]) -> Break:
    return _field(
        name,
        title,
        "CFG105",
        lambda config: {"quantization_config": {**config["quantization_config"], **changes}},
    )


@breaks_as(
    "differing-exemptions",
    "ignored_layers exempts the BF16 MTP module, modules_to_not_convert does not",
    "CFG110",
    severity=Severity.WARNING,
)
def differing_exemptions(plan: Plan) -> None:
    """One loader builds the module in BF16, the other one in FP8."""
    unquantise(plan, lambda name: layer_of(name) in plan.mtp_layers)
    plan.config["quantization_config"] |= {
        "modules_to_not_convert": ["lm_head"],
        "ignored_layers": ["lm_head", *(f"model.layers.{layer}" for layer in plan.mtp_layers)],
    }


zero_block = _quantization("zero-block-size", "weight_block_size holds a 0", {"weight_block_size": [0, 128]})
flat_block = _quantization("flat-block-size", "weight_block_size has one number", {"weight_block_size": [128]})
foreign_method = _field(
    "foreign-quant-method",
    "quant_method is awq",
    "QNT112",
    lambda config: {"quantization_config": {**config["quantization_config"], "quant_method": "awq"}},
    severity=Severity.WARNING,
    exit_code=3,
    structure="QNT210",
)
foreign_format = _quantization("foreign-fp8-format", "fmt is e5m2", {"fmt": "e5m2"})


@breaks_as("missing-block-size", "quantization_config has no weight_block_size", "CFG105")
def missing_block(plan: Plan) -> None:
    """Without it scales would be per tensor, which this layout does not have."""
    del plan.config["quantization_config"]["weight_block_size"]


over_limit = _field(
    "too-many-layers",
    "num_hidden_layers is 5,000, more than the limit",
    "CFG106",
    lambda _: {"num_hidden_layers": 5000},
    exit_code=3,
)


def _one_group(experts: int) -> dict[str, Any]:
    # Groups are no matter of the layout; one group keeps an odd number of experts free of contradiction.
    return {"n_routed_experts": experts, "n_group": 1, "topk_group": 1}


expert_too_many = _field(
    "config-one-expert-more",
    "config.json has one routed expert more than the tensors",
    "CFG107",
    lambda config: _one_group(config["n_routed_experts"] + 1),
)
expert_too_few = _field(
    "config-one-expert-fewer",
    "config.json has one routed expert fewer than the tensors",
    "CFG107",
    lambda config: _one_group(config["n_routed_experts"] - 1),
)


def _shift(name: str, field: str, by: int, direction: str) -> Break:
    return _field(
        name,
        f"{field} is {direction} than the tensors'",
        "CFG107",
        lambda config: {field: config[field] + by},
    )


wrong_hidden_size = _shift("config-wrong-hidden-size", "hidden_size", 128, "larger")
wrong_vocab_size = _shift("config-wrong-vocab-size", "vocab_size", 64, "larger")
layer_too_many = _shift("config-one-layer-more", "num_hidden_layers", 1, "larger")
layer_too_few = _shift("config-one-layer-fewer", "num_hidden_layers", -1, "smaller")
wrong_expert_size = _shift("config-wrong-expert-size", "moe_intermediate_size", 64, "larger")
wrong_dense_size = _shift("config-wrong-dense-size", "intermediate_size", -64, "smaller")
wrong_kv_rank = _shift("config-wrong-kv-rank", "kv_lora_rank", 16, "larger")
wrong_dense_layers = _shift("config-wrong-dense-layers", "first_k_dense_replace", 1, "larger")
wrong_heads = _field(
    "config-wrong-head-count",
    "num_attention_heads is twice the tensors'",
    "CFG107",
    lambda config: {"num_attention_heads": 2 * config["num_attention_heads"]},
)

wrong_block_size = _field(
    "config-wrong-block-size",
    "weight_block_size is [64, 128], every grid has blocks of 128 × 128",
    "CFG107",
    lambda config: {"quantization_config": {**config["quantization_config"], "weight_block_size": [64, 128]}},
    structure="QNT211",
)


@breaks_as("untied-head", "tie_word_embeddings is true, lm_head is stored", "CFG111", severity=Severity.WARNING)
def untied_head(plan: Plan) -> None:
    """As releases of small models are saved: the head is a copy."""
    plan.config["tie_word_embeddings"] = True
    plan.rewrite(
        lambda each: (replace(each, stream="model.embed_tokens.weight") if each.stream == "lm_head.weight" else each,)
    )


@breaks_as(
    "differing-tied-head",
    "tie_word_embeddings is true, lm_head is not the embedding: an error once both are read",
    "CFG111",
    severity=Severity.WARNING,
    also=("CFG112",),
)
def differing_tied_head(plan: Plan) -> None:
    """One loader computes with the head, another one with the embedding in its place."""
    plan.config["tie_word_embeddings"] = True


foreign_architecture = _field(
    "foreign-architecture",
    "architectures names another model's class",
    "CFG108",
    lambda _: {"architectures": ["DeepseekV2ForCausalLM"]},
    severity=Severity.WARNING,
)

unsupported_model = _field(
    "unsupported-model-type",
    "model_type is of no known family",
    None,
    lambda _: {"model_type": "bailing_moe"},
    severity=None,
    exit_code=3,
)


@breaks_as("config-is-html", "config.json is an HTML page", "CFG102")
def html_config(plan: Plan) -> None:
    """What a login page leaves when a download follows it."""
    plan.edit_config = lambda raw: b"<!DOCTYPE html><html><body>Log in</body></html>\n" if json.loads(raw) else raw


softmax_scores = _field(
    "softmax-scores",
    "scores are softmax's, beside a correction bias",
    "CFG114",
    lambda _: {"scoring_func": "softmax"},
    severity=Severity.WARNING,
)
token_beyond = _field(
    "token-beyond-vocabulary",
    "eos_token_id is no token of the vocabulary",
    "CFG114",
    lambda config: {"eos_token_id": config["vocab_size"]},
    severity=Severity.WARNING,
)


@breaks_as("other-rope-theta", "rope_theta is a tenth of the release's", "CFG113", severity=Severity.WARNING, like="v3")
def other_theta(plan: Plan) -> None:
    """No shape shows it, and the model is lost after some thousand tokens. Only sizes of a release tell."""
    if not releases_like(plan.config):
        raise LookupError("no release has these sizes")
    plan.config["rope_theta"] //= 10
