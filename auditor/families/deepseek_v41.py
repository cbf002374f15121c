"""The DeepSeek-V4.1-Flash layout: V4's attention with few layers that compress, tables of n-grams, a vision tower.

Source: the tensors of the release. No layer is routed by a table, and no head mixes residual streams.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from auditor.families import Family, Published
from auditor.families.deepseek_v4 import SOLVED, DeepseekV4Layout
from auditor.families.expectations import Row
from auditor.families.fingerprint import Fingerprint
from auditor.families.scaling import Quantiser, fp8_blocks
from auditor_schemas.configs.deepseek_v41 import DeepseekV41Config, DeepseekV41Vision


class DeepseekV41Layout(DeepseekV4Layout):
    """The rows of one config."""

    config: DeepseekV41Config
    markov_names: ClassVar[tuple[str, str]] = ("embed", "head")

    def layer_rows(self, layer: int) -> Sequence[Row]:
        """As V4, with a table of n-grams in some layers."""
        rows = super().layer_rows(layer)
        size = self.config.engrams.get(layer)
        return rows if size is None else (*rows, *self.part(("engram", size), lambda: self.engram_rows(size)))

    def experts_of(self, layer: int) -> int:
        """The routed experts of a layer, fewer in a stage of the MTP module."""
        of_stages = self.config.dspark_n_routed_experts
        in_stage = layer >= self.config.num_hidden_layers
        return of_stages if in_stage and of_stages is not None else self.config.n_routed_experts

    def top_rows(self) -> Iterator[Row]:
        """The tensors outside the layers, with the tower and what it gives to the model."""
        yield from self.vocabulary_rows()
        if self.config.vision_config is not None:
            yield from self.vision_rows(self.config.vision_config)

    def hyper_head_rows(self, *, top: bool = False) -> Iterator[Row]:
        """Nothing: streams are not mixed before a head."""
        del top
        yield from ()

    def compressor_part(self, layer: int) -> Sequence[Row]:
        """What compresses keys and values, in the layers that others read them from, and what chooses among them."""
        c = self.config
        keys: tuple[Row, ...] = ()
        if layer in c.kv_source_layer_ids:
            gated = c.ratio_of(layer) > 1
            keys = self.part(("compressor", gated), lambda: self.source_rows(gated=gated))
        return (*keys, *self.part("chooser", self.chooser_rows)) if layer in c.index_source_layer_ids else keys

    def source_rows(self, *, gated: bool) -> Iterator[Row]:
        """A compressor, which weighs the tokens of a window where there are several, and the keys of the indexer."""
        c = self.config
        for name in ("wkv", "wgate") if gated else ("wkv",):
            shape = (c.head_dim, c.hidden_size)
            yield self.plain(f"attn.compressor.{name}.weight", shape, "compressor", "compressor")
        yield self.norm("attn.compressor.norm", c.head_dim, "compressor")
        yield self.plain("attn.indexer.wk.weight", (c.index_head_dim, c.head_dim), "indexer", "indexer")
        yield self.norm("attn.indexer.k_norm", c.index_head_dim, "indexer")

    def chooser_rows(self) -> Iterator[Row]:
        """The queries of the indexer."""
        c = self.config
        name, module = "attn.indexer", "indexer"
        yield from self.linear(f"{name}.wq_b", c.index_n_heads * c.index_head_dim, c.q_lora_rank, module, module)
        yield self.plain(f"{name}.weights_proj.weight", (c.index_n_heads, c.hidden_size), module, module)

    def router_rows(self, layer: int) -> Iterator[Row]:
        """As V4, with a second correction bias for images."""
        yield from super().router_rows(layer)
        shape = (self.experts_of(layer),)
        yield self.plain("ffn.gate.bias_vl", shape, "router_bias", "router", role="router_bias", dtype="F32")

    def engram_rows(self, size: int) -> Iterator[Row]:
        """A table of n-grams, and what makes keys and values of what is found there."""
        c = self.config
        module = "engram"
        assert c.engram_head_dim is not None
        assert c.engram_max_ngram_size is not None
        assert c.engram_n_heads is not None
        table = self.table_quantiser()
        yield from self.linear(
            "engram.embed", size, c.engram_head_dim, "engram_table", module, split=0, quantiser=table
        )
        found = (c.engram_max_ngram_size - 1) * c.engram_n_heads * c.engram_head_dim
        yield from self.linear("engram.wkv", c.hidden_size * (c.hc_mult + 1), found, module, module)
        for name in ("q_weight", "k_weight"):
            yield self.plain(f"engram.{name}", (c.hc_mult, c.hidden_size), module, module, role="norm")

    def table_quantiser(self) -> Quantiser | None:
        """The format of a table, of which one row is read at a time: in groups of a row, whatever is declared."""
        if self.own is None:
            return None
        (scale,) = self.own.companions
        return fp8_blocks((1, 32), scale=scale.name, dtypes=scale.dtypes, powers_of_two=self.own.powers_of_two)

    def vision_rows(self, vision: DeepseekV41Vision) -> Iterator[Row]:
        """The tower, what leads from it to the model, and the embeddings around an image."""
        width, text = vision.hidden_size, self.config.hidden_size
        yield from self.tower_rows("vision.patch_embed.proj", width, 3 * vision.patch_size**2)
        for block in range(vision.num_hidden_layers):
            name = f"vision.blocks.{block}"
            yield from self.tower_rows(f"{name}.attn.wqkv", 3 * width, width)
            yield from self.tower_rows(f"{name}.attn.wo", width, width)
            yield from self.tower_rows(f"{name}.mlp.w1", 2 * vision.intermediate_size, width, bias=False)
            yield from self.tower_rows(f"{name}.mlp.w2", width, vision.intermediate_size, bias=False)
            yield self.norm(f"{name}.norm1", width, "vision", component="vision", top=True)
            yield self.norm(f"{name}.norm2", width, "vision", component="vision", top=True)
        yield self.norm("vision.norm", width, "vision", component="vision", top=True)
        yield from self.tower_rows("aligner.w1", text, vision.downsample_ratio**2 * width)
        yield from self.tower_rows("aligner.w2", text, text)
        for name in ("image_start", "image_end", "image_newline"):
            yield self.plain(name, (text,), "vision", "vision", top=True)

    def tower_rows(self, name: str, rows: int, columns: int, *, bias: bool = True) -> Iterator[Row]:
        """A linear layer of the tower, which no release quantises."""
        yield self.plain(f"{name}.weight", (rows, columns), "vision", "vision", top=True)
        if bias:
            yield self.plain(f"{name}.bias", (rows,), "vision", "vision", role="bias", top=True)


FAMILY = Family(
    name="deepseek-v4.1",
    title="DeepSeek-V4.1-Flash",
    model_types=("deepseek_v41",),
    architectures=("DeepseekV41ForCausalLM",),
    config=DeepseekV41Config,
    expectations=lambda config: DeepseekV41Layout(config).expectations(),
    fingerprint=Fingerprint(("layers.#.attn.kv_norm.weight", "layers.#.ffn.gate.bias_vl")),
    nested="text_config",
    formats={"expert_dtype": ("fp4",)},
    apart=("vision", "engram_table"),
    solved=(*SOLVED, "dspark_n_routed_experts"),
    released={
        "vocab_size": 129280,
        "hidden_size": 5120,
        "num_hidden_layers": 40,
        "num_attention_heads": 64,
        "head_dim": 512,
        "q_lora_rank": 1280,
        "o_groups": 8,
        "o_lora_rank": 1024,
        "index_n_heads": 32,
        "index_head_dim": 128,
        "hc_mult": 4,
        "moe_intermediate_size": 2304,
        "n_routed_experts": 384,
        "n_shared_experts": 1,
        "num_experts_per_tok": 6,
        "main_ratios": (0, 0, *(2,) * 18, *(1,) * 20),
        "kv_source_layer_ids": (2, 8, 14, 20),
        "index_source_layer_ids": (2, 8, 14, 20, 24, 28, 32, 36),
        "engrams": {1: 384006168, 14: 384016682},
        "engram_max_ngram_size": 4,
        "engram_n_heads": 8,
        "engram_head_dim": 256,
        "mtp_modules": 3,
        "dspark_n_routed_experts": 128,
        "dspark_markov_rank": 256,
        "tie_word_embeddings": False,
    },
    published=(
        Published(
            name="main model, total",
            text="552B",
            billions=552,
            digits=0,
            convention="main_total",
            source="Google Cloud's page of DeepSeek-V4.1-Flash",
            note="the backbone: neither the tables of n-grams (197B) nor the tower",
        ),
        Published(
            name="main model, activated per token",
            text="16B",
            billions=16,
            digits=0,
            convention="main_activated_without_embedding",
            source="Oxen's page of DeepSeek-V4.1-Flash",
            note="of a token that is generated; the text has 8B for one that is read, which passes fewer layers",
        ),
        Published(
            name="everything stored",
            text="763B",
            billions=763,
            digits=0,
            convention="stored",
            source="the hub's model size for DeepSeek-V4.1-Flash",
        ),
    ),
)
