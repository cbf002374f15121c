"""Kimi's vision tower and its projector, of K2.5 and of K3; no release quantises it."""

from collections.abc import Iterator
from typing import Any

from auditor.families.expectations import Row
from auditor.families.layout import Layout
from auditor_schemas.configs.kimi_k25 import KimiVision


def tower_rows(layout: Layout[Any], vision: KimiVision) -> Iterator[Row]:
    """The tower, and what leads from it to the model."""
    width, inner = vision.vt_hidden_size, vision.vt_intermediate_size
    heads = vision.qkv_hidden_size or width
    patch = "vision_tower.patch_embed"
    places = (vision.init_pos_emb_height, vision.init_pos_emb_width, width)
    yield from _layer(layout, f"{patch}.pos_emb", places, bias=False)
    yield from _layer(
        layout, f"{patch}.proj", (width, 3, vision.patch_size, vision.patch_size), bias=vision.patch_embed_proj_bias
    )
    with_bias = vision.norm_type == "layernorm"
    for block in range(vision.vt_num_hidden_layers):
        name = f"vision_tower.encoder.blocks.{block}"
        yield from _norm(layout, f"{name}.norm0", width, bias=with_bias)
        yield from _layer(layout, f"{name}.wqkv", (3 * heads, width), bias=vision.attn_bias)
        yield from _layer(layout, f"{name}.wo", (width, heads), bias=vision.attn_bias)
        yield from _norm(layout, f"{name}.norm1", width, bias=with_bias)
        yield from _layer(layout, f"{name}.mlp.fc0", (inner, width), bias=vision.linear_bias)
        yield from _layer(layout, f"{name}.mlp.fc1", (width, inner), bias=vision.linear_bias)
    yield from _norm(layout, "vision_tower.encoder.final_layernorm", width, bias=with_bias)
    merged = vision.mm_hidden_size * vision.merge_kernel_size[0] * vision.merge_kernel_size[1]
    first = vision.mm_projector_type == "patchmerger"
    if first:
        yield from _norm(layout, "mm_projector.pre_norm", vision.mm_hidden_size, bias=True)
    yield from _layer(layout, "mm_projector.proj.0", (merged, merged), bias=first)
    yield from _layer(layout, "mm_projector.proj.2", (vision.text_hidden_size, merged), bias=first)
    if not first:
        yield from _norm(layout, "mm_projector.post_norm", vision.text_hidden_size, bias=False)


def _layer(layout: Layout[Any], name: str, shape: tuple[int, ...], *, bias: bool) -> Iterator[Row]:
    yield layout.plain(f"{name}.weight", shape, "vision", "vision", top=True)
    if bias:
        yield layout.plain(f"{name}.bias", shape[:1], "vision", "vision", role="bias", top=True)


def _norm(layout: Layout[Any], name: str, width: int, *, bias: bool) -> Iterator[Row]:
    for part in ("weight", "bias") if bias else ("weight",):
        yield layout.plain(f"{name}.{part}", (width,), "vision", "vision", role="norm", top=True)
