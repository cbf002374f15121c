"""The DeepSeek-V4 layout: V4-Flash and V4-Pro, the preview and the releases of 0731 and 0813.

Sources: the tensors of the releases. A layer's attention is by its ratio in compress_ratios: 0 has no compressor, 4 has
one of overlapping windows and an indexer, any other has a compressor alone.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from auditor.families import Family, Published
from auditor.families.expectations import Row
from auditor.families.fingerprint import Fingerprint
from auditor.families.layout import Layout
from auditor.families.naming import Naming, Stack
from auditor.families.scaling import Quantiser, fp4_groups, fp8_blocks
from auditor.format.dtypes import Dtype
from auditor_schemas.configs.deepseek_v4 import DeepseekV4Config

# The ratio at which windows overlap, so that their states are twice as wide, and tokens are chosen by an indexer.
_INDEXED = 4


class DeepseekV4Layout(Layout[DeepseekV4Config]):
    """The rows of one config: attention over one latent, hyper-connections, experts in every layer."""

    markov_names: ClassVar[tuple[str, str]] = ("markov_w1", "markov_w2")

    def __init__(self, config: DeepseekV4Config) -> None:
        self.naming = Naming(
            stacks=(Stack("layers."), Stack("mtp.", config.num_hidden_layers)),
            experts="ffn.experts.",
            embedding="embed.weight",
            head="head.weight",
            marks=(),
            copies={},
        )
        super().__init__(config)
        self.experts = self.experts_quantiser()

    def quantiser(self) -> Quantiser | None:
        """FP8 in blocks with E8M0 scales; two headers of V4-Flash-Base, whose experts are FP8, have F32 ones."""
        quantization = self.config.quantization_config
        if quantization is None:
            return None
        dtypes: tuple[Dtype, ...] = ("F8_E8M0", "F32") if self.config.experts_format == "fp8" else ("F8_E8M0",)
        powers_of_two = quantization.scale_fmt == "ue8m0"
        return fp8_blocks(quantization.weight_block_size, scale="scale", dtypes=dtypes, powers_of_two=powers_of_two)

    def experts_quantiser(self) -> Quantiser | None:
        """The format of routed experts: two FP4 codes a byte, a scale for each 32 of a row."""
        if self.own is None or self.config.experts_format == "fp8":
            return self.own
        return fp4_groups(dtype="I8", scale="scale", scale_dtype="F8_E8M0")

    def layer_rows(self, layer: int) -> Sequence[Row]:
        """A decoder layer; a stage of the MTP module is one with more around it."""
        rows = (
            *self.part("attention", self.attention_rows),
            *self.compressor_part(layer),
            *self.part("norms", self.norm_rows),
            *self.part(("router", self.is_hashed(layer), self.experts_of(layer)), lambda: self.router_rows(layer)),
            *self.part(("experts", self.experts_of(layer)), lambda: self.expert_rows(self.experts_of(layer))),
            *self.part("hyper-connections", self.hyper_rows),
        )
        stage = layer - self.config.num_hidden_layers
        return rows if stage < 0 else (*rows, *self.part(("stage", stage), lambda: self.stage_rows(stage)))

    def is_hashed(self, layer: int) -> bool:
        """Whether a layer's router is a table from token to experts."""
        return layer < self.config.num_hash_layers

    def experts_of(self, layer: int) -> int:
        """The routed experts of a layer."""
        del layer
        return self.config.n_routed_experts

    def top_rows(self) -> Iterator[Row]:
        """The tensors outside the layers. A tied head is not stored."""
        yield from self.vocabulary_rows()
        yield from self.hyper_head_rows(top=True)

    def vocabulary_rows(self) -> Iterator[Row]:
        """Embedding, final norm and head."""
        config = self.config
        shape = (config.vocab_size, config.hidden_size)
        yield self.plain("embed.weight", shape, "embedding", "embedding", role="vocabulary", split=0, top=True)
        yield self.norm("norm", config.hidden_size, "norms", top=True)
        if not config.tie_word_embeddings:
            yield self.plain("head.weight", shape, "head", "head", role="vocabulary", split=0, top=True)

    def norm_rows(self) -> Iterator[Row]:
        """The two norms of every layer."""
        yield self.norm("attn_norm", self.config.hidden_size, "norms")
        yield self.norm("ffn_norm", self.config.hidden_size, "norms")

    def attention_rows(self) -> Iterator[Row]:
        """Attention whose keys and values are one latent, and whose output is projected in groups of heads."""
        c = self.config
        module, width, heads = "attention", c.hidden_size, c.num_attention_heads * c.head_dim
        yield self.plain("attn.attn_sink", (c.num_attention_heads,), module, module, dtype="F32", split=0)
        yield from self.linear("attn.wq_a", c.q_lora_rank, width, module, module)
        yield self.norm("attn.q_norm", c.q_lora_rank, module)
        yield from self.linear("attn.wq_b", heads, c.q_lora_rank, module, module, split=0)
        yield from self.linear("attn.wkv", c.head_dim, width, module, module)
        yield self.norm("attn.kv_norm", c.head_dim, module)
        grouped = c.o_groups * c.o_lora_rank
        yield from self.linear("attn.wo_a", grouped, heads // c.o_groups, module, module, split=0)
        yield from self.linear("attn.wo_b", width, grouped, module, module, split=1)

    def compressor_part(self, layer: int) -> Sequence[Row]:
        """What compresses keys and values in a layer, and picks among them."""
        ratio = self.config.ratio_of(layer)
        if not ratio:
            return ()
        rows = self.part(("compressor", ratio), lambda: self.compressor_rows("attn", ratio, self.config.head_dim))
        return (*rows, *self.part("indexer", self.indexer_rows)) if ratio == _INDEXED else rows

    def compressor_rows(self, prefix: str, ratio: int, width: int) -> Iterator[Row]:
        """A compressor of windows of `ratio` tokens into states of `width`."""
        module = "indexer" if prefix.endswith("indexer") else "compressor"
        inner = 2 * width if ratio == _INDEXED else width
        yield self.plain(f"{prefix}.compressor.ape", (ratio, inner), module, module, dtype="F32")
        for name in ("wkv", "wgate"):
            shape = (inner, self.config.hidden_size)
            yield self.plain(f"{prefix}.compressor.{name}.weight", shape, module, module)
        yield self.norm(f"{prefix}.compressor.norm", width, module)

    def indexer_rows(self) -> Iterator[Row]:
        """The indexer, which scores compressed states by a compressor of its own."""
        c = self.config
        prefix, module = "attn.indexer", "indexer"
        yield from self.linear(f"{prefix}.wq_b", c.index_n_heads * c.index_head_dim, c.q_lora_rank, module, module)
        yield self.plain(f"{prefix}.weights_proj.weight", (c.index_n_heads, c.hidden_size), module, module)
        yield from self.compressor_rows(prefix, _INDEXED, c.index_head_dim)

    def router_rows(self, layer: int) -> Iterator[Row]:
        """The router, by scores with a correction bias or by a table of the token's experts."""
        c = self.config
        experts = self.experts_of(layer)
        yield self.plain("ffn.gate.weight", (experts, c.hidden_size), "router", "router", allowed=("F32",))
        if self.is_hashed(layer):
            shape = (c.vocab_size, c.num_experts_per_tok)
            yield self.plain(
                "ffn.gate.tid2eid", shape, "router_table", "router", role="table", dtype="I64", below=experts
            )
        else:
            yield self.plain("ffn.gate.bias", (experts,), "router_bias", "router", role="router_bias", dtype="F32")

    def expert_rows(self, experts: int) -> Iterator[Row]:
        """Routed experts, and shared ones, which are one wider MLP."""
        c = self.config
        routed, shared = "ffn.experts.{expert}", "ffn.shared_experts"
        yield from self.mlp(routed, c.moe_intermediate_size, "routed_experts", "experts", experts)
        if c.n_shared_experts is not None:
            yield from self.mlp(
                shared, c.moe_intermediate_size * c.n_shared_experts, "shared_experts", "shared_experts"
            )

    def mlp(self, prefix: str, inner: int, component: str, module: str, experts: int = 0) -> Iterator[Row]:
        """A gated MLP: w1 is the gate, w3 what it gates, w2 leads back."""
        width = self.config.hidden_size
        quantiser = self.experts if experts else None
        for name, shape, split in (("w1", (inner, width), 0), ("w2", (width, inner), 1), ("w3", (inner, width), 0)):
            yield from self.linear(
                f"{prefix}.{name}", *shape, component, module, split=split, experts=experts, quantiser=quantiser
            )

    def hyper_rows(self) -> Iterator[Row]:
        """The mixing of residual streams, of the attention and of the experts of a layer."""
        streams = self.config.hc_mult
        mixes, module = streams * (streams + 2), "hyper_connections"
        for part in ("attn", "ffn"):
            shape = (mixes, streams * self.config.hidden_size)
            yield self.plain(f"hc_{part}_fn", shape, module, module, dtype="F32")
            yield self.plain(f"hc_{part}_base", (mixes,), module, module, dtype="F32")
            yield self.plain(f"hc_{part}_scale", (3,), module, module, dtype="F32")

    def hyper_head_rows(self, *, top: bool = False) -> Iterator[Row]:
        """What makes one stream of them before a head."""
        streams, module = self.config.hc_mult, "hyper_connections"
        shapes = (("fn", (streams, streams * self.config.hidden_size)), ("base", (streams,)), ("scale", (1,)))
        for name, shape in shapes:
            yield self.plain(f"hc_head_{name}", shape, module, module, dtype="F32", top=top)

    def stage_rows(self, stage: int) -> Iterator[Row]:
        """What a stage of the MTP module has beside its decoder layer."""
        c = self.config
        if not c.has_draft_heads:
            for name in ("e_proj", "h_proj"):
                yield from self.linear(name, c.hidden_size, c.hidden_size, "mtp_projection", "mtp")
            for name in ("enorm", "hnorm", "norm"):
                yield self.norm(name, c.hidden_size, "mtp", component="mtp_norms")
            yield from self.hyper_head_rows()
            return
        if stage == 0:
            sources = len(c.dspark_target_layer_ids or ())
            yield from self.linear("main_proj", c.hidden_size, sources * c.hidden_size, "mtp_projection", "mtp")
            yield self.norm("main_norm", c.hidden_size, "mtp", component="mtp_norms")
        if stage == c.mtp_modules - 1:
            yield self.norm("norm", c.hidden_size, "mtp", component="mtp_norms")
            yield from self.draft_head_rows()
            yield from self.hyper_head_rows()

    def draft_head_rows(self) -> Iterator[Row]:
        """The heads of the last stage: how likely a token follows another, and whether the draft holds."""
        c = self.config
        rank = c.dspark_markov_rank or 0
        for name in self.markov_names:
            yield self.plain(f"markov_head.{name}.weight", (c.vocab_size, rank), "mtp_heads", "mtp")
        yield self.plain("confidence_head.proj.weight", (1, c.hidden_size + rank), "mtp_heads", "mtp")


# Fields that shapes show; every dimension is linear in each of them alone.
SOLVED = (
    "vocab_size", "hidden_size", "num_attention_heads", "head_dim", "q_lora_rank", "o_lora_rank", "index_n_heads",
    "index_head_dim", "moe_intermediate_size", "n_routed_experts", "n_shared_experts", "dspark_markov_rank",
)  # fmt: skip

_COMMON = {
    "vocab_size": 129280, "head_dim": 512, "o_lora_rank": 1024, "index_n_heads": 64, "index_head_dim": 128,
    "hc_mult": 4, "n_shared_experts": 1, "num_experts_per_tok": 6, "num_hash_layers": 3, "tie_word_embeddings": False,
}  # fmt: skip
_FLASH = {
    **_COMMON, "hidden_size": 4096, "num_hidden_layers": 43, "num_attention_heads": 64, "q_lora_rank": 1024,
    "o_groups": 8, "moe_intermediate_size": 2048, "n_routed_experts": 256, "main_ratios": (0, 0, *(4, 128) * 20, 4),
}  # fmt: skip
_PRO = {
    **_COMMON, "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128, "q_lora_rank": 1536,
    "o_groups": 16, "moe_intermediate_size": 3072, "n_routed_experts": 384, "main_ratios": (128, *(128, 4) * 30),
}  # fmt: skip

_MAIN, _ACTIVATED, _STORED = "main model, total", "main model, activated per token", "everything stored"
_CARD, _HUB = "the model card of DeepSeek-V4-{}", "the hub's model size for DeepSeek-V4-{}"
# Name, text, billions, decimals, convention, source, checkpoint.
_FIGURES: tuple[tuple[str, str, float, int, str, str, dict[str, object]], ...] = (
    (_MAIN, "284B", 284, 0, "main_total", _CARD.format("Flash"), _FLASH),
    (_ACTIVATED, "13B", 13, 0, "main_activated_without_embedding", _CARD.format("Flash"), _FLASH),
    (_STORED, "291B", 291, 0, "stored", _HUB.format("Flash"), {**_FLASH, "mtp_modules": 1}),
    (_STORED, "304B", 304, 0, "stored", _HUB.format("Flash-0731"), {**_FLASH, "mtp_modules": 3}),
    (_MAIN, "1.6T", 1600, -2, "main_total", _CARD.format("Pro"), _PRO),
    (_ACTIVATED, "49B", 49, 0, "main_activated_without_embedding", _CARD.format("Pro"), _PRO),
    (_STORED, "1.6T", 1600, -2, "stored", _HUB.format("Pro"), {**_PRO, "mtp_modules": 1}),
)
_PUBLISHED = tuple(
    Published(name=name, text=text, billions=billions, digits=digits, convention=convention, source=source, of=of)
    for name, text, billions, digits, convention, source, of in _FIGURES
)

FAMILY = Family(
    name="deepseek-v4",
    title="DeepSeek-V4-Flash and V4-Pro",
    model_types=("deepseek_v4",),
    architectures=("DeepseekV4ForCausalLM",),
    config=DeepseekV4Config,
    expectations=lambda config: DeepseekV4Layout(config).expectations(),
    fingerprint=Fingerprint(("layers.#.attn.kv_norm.weight", "layers.#.attn.compressor.ape")),
    published=_PUBLISHED,
    apart=("router_table",),
    solved=SOLVED,
)
