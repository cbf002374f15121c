"""The GLM-5.3-Flash layout: linear attention in most layers, V3.2's with an indexer in the others, a vision tower.

Sources: the tensors of the FP8 release, and of two NVFP4 exports.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from msgspec.structs import replace

from auditor.families import Family
from auditor.families.deepseek_v3 import SOLVED, shown_by_presence
from auditor.families.deepseek_v32 import IndexerLayout
from auditor.families.delta_attention import DeltaAttention
from auditor.families.expectations import Row
from auditor.families.fingerprint import Fingerprint
from auditor.families.naming import Naming, Stack
from auditor.format.dtypes import Dtype
from auditor_schemas.configs.glm5_next import Glm5NextConfig, Glm5NextVision

_STEM = "model.language_model."


class Glm5NextLayout(IndexerLayout):
    """The rows of one config. The release leaves linear attention, kv_b_proj and the indexer as they are."""

    config: Glm5NextConfig
    naming = Naming(
        stacks=(Stack(f"{_STEM}layers."),), embedding=f"{_STEM}embed_tokens.weight", head="lm_head.weight", copies={}
    )
    stem: ClassVar[str] = _STEM
    norm_dtype: ClassVar[Dtype | None] = None
    key_norm_dtype: ClassVar[Dtype | None] = None

    def layer_rows(self, layer: int) -> Sequence[Row]:
        """As V3.2, with hyper-connections in the main model."""
        rows = super().layer_rows(layer)
        if not self.config.mhc or layer >= self.config.num_hidden_layers:
            return rows
        return (*rows, *self.part("hyper-connections", self.hyper_rows))

    def attention_part(self, layer: int) -> Sequence[Row]:
        """Linear attention or V3.2's, by the layer's type."""
        if self.config.is_linear(layer):
            return self.part("linear attention", self.linear_attention_rows)
        if self.config.has_indexer(layer):
            return self.part("attention", self.attention_rows)
        return self.part("shared indexer", lambda: [row for row in self.attention_rows() if row.module != "indexer"])

    def attention_rows(self) -> Iterator[Row]:
        """As V3.2; kv_b_proj stays unquantised."""
        for row in super().attention_rows():
            yield replace(row, quantiser=None) if ".kv_b_proj." in row.suffix else row

    def linear_attention_rows(self) -> Iterator[Row]:
        """Kimi Delta Attention, unquantised. Its convolutions are F32 in the export, as transformers keeps them."""
        c = self.config
        convolution: tuple[Dtype, ...] = (self.float_dtype, "F32")
        attention = DeltaAttention(
            heads=c.linear_num_heads,
            head_dim=c.linear_head_dim,
            kernel=c.linear_conv_kernel_dim,
            decays=c.linear_num_heads,
            full_gate=False,
            convolution=convolution if self.export is None else convolution[::-1],
            norm=(self.float_dtype,),
        )
        yield from attention.rows(self, c.hidden_size, self.unquantised)

    def unquantised(self, name: str, rows: int, columns: int, split: int | None) -> Iterable[Row]:
        """A linear layer that the release leaves as it is."""
        for row in self.linear(name, rows, columns, "attention", "attention", split=split):
            yield replace(row, quantiser=None)

    def indexer_rows(self) -> Iterator[Row]:
        """V3.2's indexer, unquantised, with what pools the keys of several tokens."""
        c = self.config
        yield from (replace(row, quantiser=None) for row in super().indexer_rows())
        if c.index_kpool_compress and c.index_kpool is not None:
            prefix, module = "self_attn.indexer.index_kpool_compress", "indexer"
            yield self.plain(f"{prefix}_ape", (c.index_kpool, c.index_head_dim), module, module)
            yield self.plain(f"{prefix}_gate", (c.index_head_dim, c.hidden_size), module, module)

    def hyper_rows(self) -> Iterator[Row]:
        """The mixing of residual streams, of the attention and of the MLP of a layer."""
        streams, module = self.config.hc_mult or 0, "hyper_connections"
        mixes = streams * (streams + 2)
        for part in ("attn", "ffn"):
            shape = (mixes, streams * self.config.hidden_size)
            yield self.plain(f"hc_{part}_fn", shape, module, module, allowed=("F32",))
            yield self.plain(f"hc_{part}_base", (mixes,), module, module, dtype="F32")
            yield self.plain(f"hc_{part}_scale", (3,), module, module, dtype="F32")

    def top_rows(self) -> Iterator[Row]:
        """As V3, with the tower."""
        yield from super().top_rows()
        if self.config.vision_config is not None:
            yield from self.vision_rows(self.config.vision_config)

    def vision_rows(self, vision: Glm5NextVision) -> Iterator[Row]:
        """The tower and what leads from it to the model."""
        width, out = vision.hidden_size, vision.out_hidden_size
        patch = (vision.in_channels, vision.temporal_patch_size, vision.patch_size, vision.patch_size)
        yield from self.tower("patch_embed.proj", width, *patch, bias=True)
        for block in range(vision.depth):
            yield from self.block_rows(f"blocks.{block}", vision)
        yield self.tower_norm("post_layernorm", width)
        merged = vision.spatial_merge_size
        yield from self.tower("downsample", out, width, merged, merged, bias=True)
        yield from self.tower("merger.proj", out, out)
        yield self.tower_norm("merger.post_projection_norm", out)
        yield self.tower_norm("merger.post_projection_norm", out, "bias")
        wide = vision.projection_intermediate_size
        yield from self.tower("merger.gate_proj", wide, out)
        yield from self.tower("merger.up_proj", wide, out)
        yield from self.tower("merger.down_proj", out, wide)

    def block_rows(self, name: str, vision: Glm5NextVision) -> Iterator[Row]:
        """One block of the tower."""
        width, inner, bias = vision.hidden_size, vision.intermediate_size, vision.attention_bias
        yield from self.tower(f"{name}.attn.qkv", 3 * width, width, bias=bias)
        yield from self.tower(f"{name}.attn.proj", width, width, bias=bias)
        for norm in ("attn.q_norm", "attn.k_norm"):
            yield self.tower_norm(f"{name}.{norm}", width // vision.num_heads)
        yield from self.tower(f"{name}.mlp.gate_proj", inner, width, bias=bias)
        yield from self.tower(f"{name}.mlp.up_proj", inner, width, bias=bias)
        yield from self.tower(f"{name}.mlp.down_proj", width, inner, bias=bias)
        yield self.tower_norm(f"{name}.norm1", width)
        yield self.tower_norm(f"{name}.norm2", width)

    def tower(self, name: str, *shape: int, bias: bool = False) -> Iterator[Row]:
        """A layer of the tower, which no release quantises."""
        yield self.plain(f"model.visual.{name}.weight", shape, "vision", "vision", top=True)
        if bias:
            yield self.plain(f"model.visual.{name}.bias", shape[:1], "vision", "vision", role="bias", top=True)

    def tower_norm(self, name: str, width: int, part: str = "weight") -> Row:
        """A norm of the tower, its gain or its bias."""
        return self.plain(f"model.visual.{name}.{part}", (width,), "vision", "vision", role="norm", top=True)


FAMILY = Family(
    name="glm-5.3-flash",
    title="GLM-5.3-Flash",
    model_types=("glm5_next",),
    architectures=("Glm5NextForConditionalGeneration",),
    config=Glm5NextConfig,
    expectations=lambda config: Glm5NextLayout(config).expectations(),
    fingerprint=Fingerprint(
        ("model.language_model.layers.#.input_layernorm.weight", "model.language_model.layers.#.self_attn.A_log")
    ),
    solved=(*SOLVED, "index_n_heads", "index_head_dim", "linear_num_heads", "linear_head_dim"),
    shown=shown_by_presence,
    nested="text_config",
)
