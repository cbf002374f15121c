"""What each layout holds, written down apart from the code under test: name, shape, and for which layers and experts.

After the published descriptions of the layouts. A line is a name and its shape; a line that begins with @ says what
stands before the names under it, and of what layers and experts there is one each, as a comprehension of Python has it.
Names are those of config.json, H its hidden_size; what else stands there is below. Towers have tests of their own.
"""

import math
from typing import Any

_TOP = """
@ {S}
embed_tokens.weight: vocab_size, H
norm.weight: H,
@ {HEAD}
lm_head.weight: vocab_size, H
"""
_NORMS = """
@ {S}layers.{n}. for n in LAYERS
input_layernorm.weight: H,
post_attention_layernorm.weight: H,
"""
_DENSE = """
@ {S}layers.{n}.mlp. for n in LAYERS if not moe(n)
gate_proj.weight: intermediate_size, H
up_proj.weight: intermediate_size, H
down_proj.weight: H, intermediate_size
"""
_EXPERTS = """
@ {S}layers.{n}.mlp. for n in LAYERS if moe(n)
gate.weight: EXPERTS, H
@ {S}layers.{n}.mlp.experts.{e}. for n in LAYERS if moe(n) for e in range(EXPERTS)
gate_proj.weight: moe_intermediate_size, H
up_proj.weight: moe_intermediate_size, H
down_proj.weight: H, moe_intermediate_size
"""
_BIAS = """
@ {S}layers.{n}.mlp. for n in LAYERS if moe(n)
gate.e_score_correction_bias: EXPERTS,
"""
_SHARED = """
@ {S}layers.{n}.mlp.shared_experts. for n in LAYERS if moe(n)
gate_proj.weight: moe_intermediate_size * n_shared_experts, H
up_proj.weight: moe_intermediate_size * n_shared_experts, H
down_proj.weight: H, moe_intermediate_size * n_shared_experts
"""
_LATENT = """
@ {S}layers.{n}.self_attn. for n in LAYERS if not linear(n)
q_a_proj.weight: q_lora_rank, H
q_a_layernorm.weight: q_lora_rank,
q_b_proj.weight: num_attention_heads * (qk_nope_head_dim + qk_rope_head_dim), q_lora_rank
kv_a_proj_with_mqa.weight: kv_lora_rank + qk_rope_head_dim, H
kv_a_layernorm.weight: kv_lora_rank,
kv_b_proj.weight: num_attention_heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank
o_proj.weight: H, num_attention_heads * v_head_dim
"""
_MTP = """
@ {S}layers.{n}. for n in MTP
enorm.weight: H,
hnorm.weight: H,
eh_proj.weight: H, 2 * H
shared_head.norm.weight: H,
"""
_COPIES = """
@ {S}layers.{n}. for n in MTP
embed_tokens.weight: vocab_size, H
shared_head.head.weight: vocab_size, H
"""
_INDEXERS = """
@ {S}layers.{n}.self_attn.indexer. for n in LAYERS if indexed(n)
wq_b.weight: index_n_heads * index_head_dim, q_lora_rank
wk.weight: index_head_dim, H
k_norm.weight: index_head_dim,
k_norm.bias: index_head_dim,
weights_proj.weight: index_n_heads, H
"""
_MLA = _TOP + _NORMS + _DENSE + _EXPERTS + _BIAS + _SHARED + _LATENT
_GROUPED = """
@ {S}layers.{n}.self_attn. for n in LAYERS
q_proj.weight: num_attention_heads * head_dim, H
k_proj.weight: num_key_value_heads * head_dim, H
v_proj.weight: num_key_value_heads * head_dim, H
o_proj.weight: H, num_attention_heads * head_dim
"""
_V4 = """
@
embed.weight: vocab_size, H
head.weight: vocab_size, H
norm.weight: H,
@ {B}attn. for B in BLOCKS
attn_sink: num_attention_heads,
wq_a.weight: q_lora_rank, H
q_norm.weight: q_lora_rank,
wq_b.weight: num_attention_heads * head_dim, q_lora_rank
wkv.weight: head_dim, H
kv_norm.weight: head_dim,
wo_a.weight: o_groups * o_lora_rank, num_attention_heads * head_dim // o_groups
wo_b.weight: H, o_groups * o_lora_rank
@ {B} for B in BLOCKS
attn_norm.weight: H,
ffn_norm.weight: H,
hc_attn_fn: hc_mult * (hc_mult + 2), hc_mult * H
hc_attn_base: hc_mult * (hc_mult + 2),
hc_attn_scale: 3,
hc_ffn_fn: hc_mult * (hc_mult + 2), hc_mult * H
hc_ffn_base: hc_mult * (hc_mult + 2),
hc_ffn_scale: 3,
@ {B}ffn. for B in BLOCKS
gate.weight: experts(B), H
shared_experts.w1.weight: n_shared_experts * moe_intermediate_size, H
shared_experts.w2.weight: H, n_shared_experts * moe_intermediate_size
shared_experts.w3.weight: n_shared_experts * moe_intermediate_size, H
@ {B}ffn.experts.{e}. for B in BLOCKS for e in range(experts(B))
w1.weight: moe_intermediate_size, H
w2.weight: H, moe_intermediate_size
w3.weight: moe_intermediate_size, H
@ {B}ffn. for B in BLOCKS if not hashed(B)
gate.bias: experts(B),
"""
_DSPARK = """
@ mtp.0. for _ in STAGES[:1]
main_proj.weight: H, len(dspark_target_layer_ids) * H
main_norm.weight: H,
@ {B} for B in STAGES[-1:]
norm.weight: H,
confidence_head.proj.weight: 1, H + dspark_markov_rank
"""

SHEETS = {
    "deepseek-v3": _MLA + _MTP + _COPIES,
    "deepseek-v3.2": _MLA + _MTP + _COPIES + _INDEXERS,
    "glm-5": _MLA + _MTP + _INDEXERS,
    "kimi-k2": _MLA,
    "kimi-k2.5": _MLA,
    "qwen3-moe": _TOP + _NORMS + _DENSE + _EXPERTS + _GROUPED + """
@ {S}layers.{n}.self_attn. for n in LAYERS
q_norm.weight: head_dim,
k_norm.weight: head_dim,
""",
    "minimax-m2": _TOP + _NORMS + _GROUPED + """
@ {S}layers.{n}.self_attn. for n in LAYERS
q_norm.weight: num_attention_heads * head_dim,
k_norm.weight: num_key_value_heads * head_dim,
@ {S}layers.{n}.block_sparse_moe. for n in LAYERS
gate.weight: EXPERTS, H
e_score_correction_bias: EXPERTS,
@ {S}layers.{n}.block_sparse_moe.experts.{e}. for n in LAYERS for e in range(EXPERTS)
w1.weight: intermediate_size, H
w2.weight: H, intermediate_size
w3.weight: intermediate_size, H
""",
    "mimo-v2.5": _TOP + _NORMS + _DENSE + _EXPERTS + _BIAS + """
@ model.layers.{n}.self_attn. for n in LAYERS if not hybrid_layer_pattern[n]
qkv_proj.weight: num_attention_heads * head_dim + num_key_value_heads * (head_dim + v_head_dim), H
o_proj.weight: H, num_attention_heads * v_head_dim
@ {w}self_attn. for w in WINDOWS
qkv_proj.weight: swa_num_attention_heads * swa_head_dim + swa_num_key_value_heads * (swa_head_dim + swa_v_head_dim), H
o_proj.weight: H, swa_num_attention_heads * swa_v_head_dim
attention_sink_bias: swa_num_attention_heads,
@ model.mtp.layers.{n}. for n in range(3)
input_layernorm.weight: H,
pre_mlp_layernorm.weight: H,
final_layernorm.weight: H,
enorm.weight: H,
hnorm.weight: H,
eh_proj.weight: H, 2 * H
mlp.gate_proj.weight: intermediate_size, H
mlp.up_proj.weight: intermediate_size, H
mlp.down_proj.weight: H, intermediate_size
""",
    "kimi-k3": _TOP + _NORMS + _DENSE + _LATENT + """
@ {S}
output_attn_res_norm.weight: H,
output_attn_res_proj.weight: 1, H
@ {S}layers.{n}. for n in LAYERS
self_attention_res_norm.weight: H,
self_attention_res_proj.weight: 1, H
mlp_res_norm.weight: H,
mlp_res_proj.weight: 1, H
@ {S}layers.{n}.self_attn. for n in LAYERS if not linear(n)
g_proj.weight: num_attention_heads * v_head_dim, H
@ {S}layers.{n}.self_attn. for n in LAYERS if linear(n)
q_proj.weight: KDA.num_heads * KDA.head_dim, H
k_proj.weight: KDA.num_heads * KDA.head_dim, H
v_proj.weight: KDA.num_heads * KDA.head_dim, H
q_conv1d.weight: KDA.num_heads * KDA.head_dim, 1, KDA.short_conv_kernel_size
k_conv1d.weight: KDA.num_heads * KDA.head_dim, 1, KDA.short_conv_kernel_size
v_conv1d.weight: KDA.num_heads * KDA.head_dim, 1, KDA.short_conv_kernel_size
A_log: 128 * ceil(KDA.num_heads / 128),
dt_bias: KDA.num_heads * KDA.head_dim,
b_proj.weight: KDA.num_heads, H
f_a_proj.weight: KDA.head_dim, H
f_b_proj.weight: KDA.num_heads * KDA.head_dim, KDA.head_dim
g_proj.weight: KDA.num_heads * KDA.head_dim, H
o_norm.weight: KDA.head_dim,
o_proj.weight: H, KDA.num_heads * KDA.head_dim
@ {S}layers.{n}.block_sparse_moe. for n in LAYERS if moe(n)
gate.weight: EXPERTS, H
gate.e_score_correction_bias: EXPERTS,
routed_expert_down_proj.weight: routed_expert_hidden_size, H
routed_expert_norm.weight: routed_expert_hidden_size,
routed_expert_up_proj.weight: H, routed_expert_hidden_size
shared_experts.gate_proj.weight: moe_intermediate_size * num_shared_experts, H
shared_experts.up_proj.weight: moe_intermediate_size * num_shared_experts, H
shared_experts.down_proj.weight: H, moe_intermediate_size * num_shared_experts
@ {S}layers.{n}.block_sparse_moe.experts.{e}. for n in LAYERS if moe(n) for e in range(EXPERTS)
w1.weight: moe_intermediate_size, routed_expert_hidden_size
w2.weight: routed_expert_hidden_size, moe_intermediate_size
w3.weight: moe_intermediate_size, routed_expert_hidden_size
""",
    "glm-5.3-flash": _MLA + _MTP + _INDEXERS + """
@ {S}layers.{n}.self_attn.indexer.index_kpool_compress_ for n in LAYERS if indexed(n)
ape: index_kpool, index_head_dim
gate: index_head_dim, H
@ {S}layers.{n}.hc_ for n in range(num_hidden_layers)
attn_fn: hc_mult * (hc_mult + 2), hc_mult * H
attn_base: hc_mult * (hc_mult + 2),
attn_scale: 3,
ffn_fn: hc_mult * (hc_mult + 2), hc_mult * H
ffn_base: hc_mult * (hc_mult + 2),
ffn_scale: 3,
@ {S}layers.{n}.self_attn. for n in LAYERS if linear(n)
q_proj.weight: linear_num_heads * linear_head_dim, H
k_proj.weight: linear_num_heads * linear_head_dim, H
v_proj.weight: linear_num_heads * linear_head_dim, H
q_conv1d.weight: linear_num_heads * linear_head_dim, 1, linear_conv_kernel_dim
k_conv1d.weight: linear_num_heads * linear_head_dim, 1, linear_conv_kernel_dim
v_conv1d.weight: linear_num_heads * linear_head_dim, 1, linear_conv_kernel_dim
A_log: linear_num_heads,
dt_bias: linear_num_heads * linear_head_dim,
b_proj.weight: linear_num_heads, H
f_a_proj.weight: linear_head_dim, H
f_b_proj.weight: linear_num_heads * linear_head_dim, linear_head_dim
g_a_proj.weight: linear_head_dim, H
g_b_proj.weight: linear_num_heads * linear_head_dim, linear_head_dim
o_norm.weight: linear_head_dim,
o_proj.weight: H, linear_num_heads * linear_head_dim
""",
    "deepseek-v4": _V4 + """
@ hc_head_
fn: hc_mult, hc_mult * H
base: hc_mult,
scale: 1,
@ {B}ffn. for B in BLOCKS if hashed(B)
gate.tid2eid: vocab_size, num_experts_per_tok
@ {B}attn.compressor. for B in BLOCKS if ratio(B)
ape: ratio(B), (2 if ratio(B) == 4 else 1) * head_dim
wkv.weight: (2 if ratio(B) == 4 else 1) * head_dim, H
wgate.weight: (2 if ratio(B) == 4 else 1) * head_dim, H
norm.weight: head_dim,
@ {B}attn.indexer. for B in BLOCKS if ratio(B) == 4
wq_b.weight: index_n_heads * index_head_dim, q_lora_rank
weights_proj.weight: index_n_heads, H
compressor.ape: 4, 2 * index_head_dim
compressor.wkv.weight: 2 * index_head_dim, H
compressor.wgate.weight: 2 * index_head_dim, H
compressor.norm.weight: index_head_dim,
""",
    "deepseek-v4.1": _V4 + _DSPARK + """
@ {B}ffn. for B in BLOCKS
gate.bias_vl: experts(B),
@ layers.{n}.attn. for n in kv_source_layer_ids
compressor.wkv.weight: head_dim, H
compressor.norm.weight: head_dim,
indexer.wk.weight: index_head_dim, head_dim
indexer.k_norm.weight: index_head_dim,
@ layers.{n}.attn. for n in kv_source_layer_ids if compress_ratios[n] > 1
compressor.wgate.weight: head_dim, H
@ layers.{n}.attn.indexer. for n in index_source_layer_ids
wq_b.weight: index_n_heads * index_head_dim, q_lora_rank
weights_proj.weight: index_n_heads, H
@ layers.{n}.engram. for n, size in zip(engram_layer_ids, engram_num_embeddings)
embed.weight: size, engram_head_dim
wkv.weight: H * (hc_mult + 1), (engram_max_ngram_size - 1) * engram_n_heads * engram_head_dim
q_weight: hc_mult, H
k_weight: hc_mult, H
@ {B}markov_head. for B in STAGES[-1:]
embed.weight: vocab_size, dspark_markov_rank
head.weight: vocab_size, dspark_markov_rank
""",
}  # fmt: skip
SHEETS["deepseek-v4, with DSpark"] = SHEETS["deepseek-v4"] + _DSPARK + """
@ {B}hc_head_ for B in STAGES[-1:]
fn: hc_mult, hc_mult * H
base: hc_mult,
scale: 1,
@ {B}markov_head. for B in STAGES[-1:]
markov_w1.weight: vocab_size, dspark_markov_rank
markov_w2.weight: vocab_size, dspark_markov_rank
"""  # fmt: skip
SHEETS["deepseek-v4"] += """
@ {B}hc_head_ for B in STAGES
fn: hc_mult, hc_mult * H
base: hc_mult,
scale: 1,
@ {B} for B in STAGES
e_proj.weight: H, H
h_proj.weight: H, H
enorm.weight: H,
hnorm.weight: H,
norm.weight: H,
"""
STEMS = {
    "kimi-k2.5": ("language_model.model.", "language_model."),
    "kimi-k3": ("language_model.model.", "language_model."),
    "glm-5.3-flash": ("model.language_model.", ""),
}


class Fields(dict[str, Any]):
    """Fields of a config.json by name."""

    __getattr__ = dict.__getitem__


def meant(family: str, fields: dict[str, Any]) -> Fields:
    """What the words on a sheet stand for, by the fields of a config.json."""
    c = Fields(fields)
    stem, head = STEMS.get(family, ("model.", ""))
    layers = c.num_hidden_layers
    modules = 0 if family in ("minimax-m2", "mimo-v2.5") else c.get("num_nextn_predict_layers") or 0
    c |= {
        "H": c.hidden_size,
        "S": stem,
        "HEAD": head,
        "ceil": math.ceil,
        "KDA": Fields(c.get("linear_attn_config") or {}),
    }
    c |= {"LAYERS": range(layers + modules), "MTP": range(layers, layers + modules)}
    c["EXPERTS"] = next((c[name] for name in ("n_routed_experts", "num_experts", "num_local_experts") if name in c), 0)
    types = c.get("layer_types") or ()
    c["linear"] = lambda n: n < len(types) and types[n] == "linear_attention"
    if family == "kimi-k3":
        c["linear"] = lambda n: n + 1 in c.KDA.kda_layers
    kinds = c.get("indexer_types") or ()
    c["indexed"] = lambda n: not c.linear(n) and (n >= len(kinds) or kinds[n] == "full")
    frequency = c.get("moe_layer_freq", 1)
    if isinstance(frequency, list):
        c["moe"] = lambda n: frequency[n] == 1
        main = [f"model.layers.{n}." for n in range(layers) if c.hybrid_layer_pattern[n]]
        c["WINDOWS"] = [*main, *(f"model.mtp.layers.{n}." for n in range(3))]
    elif "decoder_sparse_step" in c:
        c["moe"] = lambda n: (n + 1) % c.decoder_sparse_step == 0 and n not in c.mlp_only_layers
    else:
        c["moe"] = lambda n: n >= c.get("first_k_dense_replace", 0) and n % frequency == 0
    if "compress_ratios" in c:
        c["STAGES"] = [f"mtp.{n}." for n in range(len(c.compress_ratios) - layers)]
        c["BLOCKS"] = [*(f"layers.{n}." for n in range(layers)), *c.STAGES]
        numbers = {block: n for n, block in enumerate(c.BLOCKS)}
        fewer = c.get("dspark_n_routed_experts") if family == "deepseek-v4.1" else None
        c["ratio"] = lambda block: c.compress_ratios[numbers[block]]
        c["hashed"] = lambda block: numbers[block] < c.get("num_hash_layers", 0)
        c["experts"] = lambda block: fewer if fewer and numbers[block] >= layers else c.EXPERTS
    return c


def written(family: str, fields: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor that a sheet says, with its shape, weights as they are before anything is packed."""
    words = meant(family, fields)
    found: dict[str, tuple[int, ...]] = {}
    stem = clause = ""
    for line in filter(None, SHEETS[family].splitlines()):
        if line.startswith("@"):
            stem, _, several = line[1:].strip().partition(" for ")
            clause = several or "_ in (0,)"
            continue
        name, _, shape = line.partition(": ")
        # A sheet is ours, and a shape on it an expression.
        each = eval(f"[(f'{stem}{name}', ({shape})) for {clause}]", words)
        for key, value in each:
            assert key not in found, key
            found[key] = value
    return found
