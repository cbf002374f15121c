"""The vision tower and the audio encoder of MiMo-V2.5, which no release quantises.

Source: a header dump of MiMo-V2.5.
"""

from collections.abc import Iterator
from typing import Any

from auditor.families.expectations import Row
from auditor.families.layout import Layout
from auditor_schemas.configs.mimo_v2 import MimoAudio, MimoVision

_HEAD = 64  # the width of a head of the vision tower, which no field says


def vision_rows(layout: Layout[Any], vision: MimoVision) -> Iterator[Row]:
    """The vision tower, and what merges its patches into tokens."""
    width, inner = vision.hidden_size, vision.intermediate_size
    patch = (width, vision.in_chans, vision.temporal_patch_size, vision.patch_size, vision.patch_size)
    yield _row(layout, "visual.patch_embed.proj.weight", *patch)
    heads, both = vision.num_heads * _HEAD, 2 * vision.num_key_value_heads * _HEAD
    for block, window in enumerate(vision.vit_window_attn_types):
        name = f"visual.blocks.{block}"
        if vision.use_sink and window >= 0:
            yield _row(layout, f"{name}.attn.sinks", vision.num_heads)
        for part, out, into in (
            ("attn.qkv", heads + both, width),
            ("attn.proj", width, heads),
            ("mlp.gate_proj", inner, width),
            ("mlp.up_proj", inner, width),
            ("mlp.down_proj", width, inner),
        ):
            yield _row(layout, f"{name}.{part}.weight", out, into)
            yield _row(layout, f"{name}.{part}.bias", out)
        yield _row(layout, f"{name}.norm1.weight", width)
        yield _row(layout, f"{name}.norm2.weight", width)
    merged = width * vision.spatial_merge_size**2
    yield _row(layout, "visual.merger.ln_q.weight", width)
    yield _row(layout, "visual.merger.mlp.0.weight", merged, merged)
    yield _row(layout, "visual.merger.mlp.2.weight", vision.out_hidden_size, merged)


def audio_rows(layout: Layout[Any], audio: MimoAudio) -> Iterator[Row]:
    """The tables of its channels, the transformer over a group of steps, and what makes a token of a group."""
    width, inner = audio.input_local_dim, audio.input_local_intermediate_size
    heads = audio.input_local_attn_heads * audio.input_local_head_dim
    for channel in range(audio.audio_channels):
        yield _row(layout, f"speech_embeddings.{channel}.weight", audio.speech_vocab_size, width)
    stem = "audio_encoder.input_local_transformer"
    for layer in range(audio.input_local_layers):
        name = f"{stem}.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj"):
            yield _row(layout, f"{name}.self_attn.{part}.weight", heads, width)
            yield _row(layout, f"{name}.self_attn.{part}.bias", heads)
        yield _row(layout, f"{name}.self_attn.o_proj.weight", width, heads)
        yield _row(layout, f"{name}.mlp.gate_proj.weight", inner, width)
        yield _row(layout, f"{name}.mlp.up_proj.weight", inner, width)
        yield _row(layout, f"{name}.mlp.down_proj.weight", width, inner)
        yield _row(layout, f"{name}.input_layernorm.weight", width)
        yield _row(layout, f"{name}.post_attention_layernorm.weight", width)
    if audio.add_post_norm:
        yield _row(layout, f"{stem}.norm.weight", width)
    grouped = width * audio.group_size
    yield _row(layout, "audio_encoder.projection.mlp.0.weight", 4 * grouped, grouped)
    yield _row(layout, "audio_encoder.projection.mlp.2.weight", audio.out_hidden_size, 4 * grouped)


def _row(layout: Layout[Any], name: str, *shape: int) -> Row:
    module = "vision" if name.startswith("visual.") else "audio"
    return layout.plain(name, shape, module, module, top=True)
