"""What a checkpoint says by readers other than the auditor's: safetensors, and the json module made strict."""

import json
from pathlib import Path
from typing import Any

CONFIG, INDEX = "config.json", "model.safetensors.index.json"

# What names, shapes and dtypes follow from: a pass with another value here would be a false one.
LAYOUT_FIELDS = (
    "model_type", "attention_bias", "first_k_dense_replace", "hidden_size", "intermediate_size",
    "kv_lora_rank", "moe_intermediate_size", "moe_layer_freq", "n_routed_experts", "n_shared_experts",
    "num_attention_heads", "num_hidden_layers", "num_nextn_predict_layers", "q_lora_rank", "qk_nope_head_dim",
    "qk_rope_head_dim", "tie_word_embeddings", "topk_method", "v_head_dim", "vocab_size",
)  # fmt: skip
ABSENT = {  # what the reference code takes where a field is absent or null
    "attention_bias": False, "first_k_dense_replace": 0, "moe_layer_freq": 1, "num_nextn_predict_layers": 0,
    "tie_word_embeddings": False, "topk_method": "noaux_tc", "fmt": "e4m3",
}  # fmt: skip
QUANTIZATION_FIELDS = ("quant_method", "fmt", "weight_block_size")


class RepeatedKeyError(ValueError):
    """A key came twice."""


def strict_json(text: bytes) -> Any:
    """JSON as RFC 8259 has it, and no key twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise RepeatedKeyError("a key comes twice")
        return found

    def refuse(text: str) -> Any:
        raise ValueError(f"{text} is no JSON number")

    decoded = text.decode("utf-8")
    value = json.loads(decoded, object_pairs_hook=once, parse_constant=refuse)
    if "\\u" in decoded:
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    return value


def facts_of(folder: Path) -> dict[str, Any]:
    """What a checkpoint says, by readers other than the auditor's; raises ValueError where one of them refuses."""
    from safetensors import SafetensorError, safe_open

    try:
        config = strict_json((folder / CONFIG).read_bytes())
        index = strict_json((folder / INDEX).read_bytes())
        tensors: dict[str, tuple[str, str, list[int]]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with path.open("rb") as file:
                header = strict_json(file.read(int.from_bytes(file.read(8), "little")))
            with safe_open(path, framework="numpy") as shard:
                for name in shard.keys():  # noqa: SIM118  # no mapping: it has keys() and no iterator
                    if name in tensors:
                        raise RepeatedKeyError(f"{name} is in two shards")
                    view = shard.get_slice(name)
                    tensors[name] = (path.name, view.get_dtype(), view.get_shape())
            if set(header) - {"__metadata__"} != {name for name, where in tensors.items() if where[0] == path.name}:
                raise ValueError(f"{path.name}: two readings of the header differ")
        quantization = config["quantization_config"]
        layout = {key: repr(config.get(key, ABSENT.get(key))) for key in LAYOUT_FIELDS}
        layout |= {key: repr(quantization.get(key, ABSENT.get(key))) for key in QUANTIZATION_FIELDS}
        return {"layout": layout, "weight_map": index["weight_map"], "tensors": tensors}
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
