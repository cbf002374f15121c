"""Formats in use are told apart, and what a generic rule would trip over is no fault."""

from collections.abc import Callable
from pathlib import Path

import pytest

from auditor import audit
from auditor.families.conventions import Block, blocks, split
from auditor_schemas.report import AuditReport
from tests.sparse_tables import Tensors, write_sparse

Linear = Callable[[str, int, int], Tensors]


def dense(linear: Linear | None = None, *, layers: int = 4, extra: Tensors | None = None) -> Tensors:
    """A dense model whose linear layers are stored as `linear` has them, by stem, out and in."""
    linear = linear or (lambda stem, rows, columns: {f"{stem}.weight": ("BF16", (rows, columns))})
    hidden, inner = 256, 512
    tensors: Tensors = {
        "model.embed_tokens.weight": ("BF16", (1000, hidden)),
        "model.norm.weight": ("BF16", (hidden,)),
        "lm_head.weight": ("BF16", (1000, hidden)),
    }
    sizes = {"q": (hidden, hidden), "k": (hidden // 2, hidden), "v": (hidden // 2, hidden), "o": (hidden, hidden)}
    for layer in range(layers):
        before = f"model.layers.{layer}."
        tensors[f"{before}input_layernorm.weight"] = ("BF16", (hidden,))
        tensors[f"{before}post_attention_layernorm.weight"] = ("BF16", (hidden,))
        for name, (rows, columns) in sizes.items():
            tensors |= linear(f"{before}self_attn.{name}_proj", rows, columns)
        for name, rows, columns in (("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)):
            tensors |= linear(f"{before}mlp.{name}_proj", rows, columns)
    return tensors | (extra or {})


def alone(directory: Path, tensors: Tensors, config: object = None) -> AuditReport:
    return audit(write_sparse(directory / "x", tensors, config=config), family="structure")


def rules(report: AuditReport) -> set[str]:
    return {each.rule for each in report.findings if each.caused_by is None}


def parts(**kinds: Callable[[int, int], tuple[str, tuple[int, ...]]]) -> Linear:
    """A linear layer of parts by the names below its stem, `__` for a dot; dtype and shape follow from out and in."""

    def linear(stem: str, rows: int, columns: int) -> Tensors:
        return {f"{stem}.{name.replace('__', '.')}": kind(rows, columns) for name, kind in kinds.items()}

    return linear


def plain(dtype: str, *shape: int) -> Callable[[int, int], tuple[str, tuple[int, ...]]]:
    return lambda rows, columns: (dtype, shape)


VALUES = 2_359_296  # of the linear layers of `dense`
FORMATS: dict[str, tuple[Linear, dict | None, tuple[str, str | None]]] = {
    "fp8-tensor": (
        parts(weight=lambda o, i: ("F8_E4M3", (o, i)), weight_scale=plain("F32"), input_scale=plain("F32")),
        {"quant_method": "modelopt", "quant_algo": "FP8"},
        ("FP8", "one for the tensor"),
    ),
    "fp8-tensor-without-method": (
        parts(weight=lambda o, i: ("F8_E4M3", (o, i)), weight_scale=plain("F32"), input_scale=plain("F32")),
        {"quant_algo": "FP8"},
        ("FP8", "one for the tensor"),
    ),
    "fp8-row": (
        parts(weight=lambda o, i: ("F8_E4M3", (o, i)), weight_scale=lambda o, i: ("F32", (o, 1)),
              input_scale_ub=plain("F32", 1)),
        {"quant_method": "fbgemm_fp8"},
        ("FP8", "one for each row"),
    ),
    "fp8-blocks-of-rank-four": (
        parts(weight=lambda o, i: ("F8_E4M3", (o, i)), weight_scale=lambda o, i: ("F32", (o // 128, 1, i // 128, 1))),
        {"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"},
        ("FP8", "128 × 128"),
    ),
    "mxfp8": (
        parts(weight=lambda o, i: ("F8_E4M3", (o, i)), weight_scale_inv=lambda o, i: ("U8", (o, i // 32))),
        {"quant_method": "mxfp8", "weight_block_size": [1, 32]},
        ("FP8", "1 × 32"),
    ),
    "mistral": (
        parts(weight=lambda o, i: ("F8_E4M3", (o, i)), qscale_weight=plain("F32"), qscale_act=plain("F32")),
        None,
        ("FP8", "one for the tensor"),
    ),
    "comfy": (
        parts(weight=lambda o, i: ("F8_E4M3", (o, i)), scale_weight=plain("F32"), scale_input=plain("F32")),
        None,
        ("FP8", "one for the tensor"),
    ),
    "int8-rows": (
        parts(weight=lambda o, i: ("I8", (o, i)), weight_scale=lambda o, i: ("BF16", (o, 1))),
        {"quant_method": "compressed-tensors", "format": "int-quantized"},
        ("INT8", "one for each row"),
    ),
    "int8-blocks": (
        parts(weight=lambda o, i: ("I8", (o, i)), weight_scale_inv=lambda o, i: ("F32", (o // 128, i // 128))),
        {"quant_method": "blockwise_int8", "weight_block_size": [128, 128]},
        ("INT8", "128 × 128"),
    ),
    "ascend": (
        parts(weight=lambda o, i: ("I8", (o, i)), weight_scale=lambda o, i: ("F32", (o, 1)),
              weight_offset=lambda o, i: ("F32", (o, 1)), deq_scale=lambda o, i: ("F32", (o,)),
              quant_bias=lambda o, i: ("I32", (o,)), input_scale=plain("F32", 1), input_offset=plain("F32", 1)),
        None,
        ("INT8", "one for each row"),
    ),
    "gptq": (
        parts(qweight=lambda o, i: ("I32", (i // 8, o)), qzeros=lambda o, i: ("I32", (i // 128, o // 8)),
              scales=lambda o, i: ("F16", (i // 128, o)), g_idx=lambda o, i: ("I32", (i,))),
        {"quant_method": "gptq", "bits": 4, "group_size": 128},
        ("GPTQ", "1 × 128"),
    ),
    "gptq-of-three-bits": (
        parts(qweight=lambda o, i: ("I32", (i * 3 // 32, o)), qzeros=lambda o, i: ("I32", (i // 128, o * 3 // 32)),
              scales=lambda o, i: ("F16", (i // 128, o)), g_idx=lambda o, i: ("I32", (i,))),
        {"quant_method": "gptq", "bits": 3},
        ("GPTQ", "1 × 128"),
    ),
    "gptq-of-one-group": (
        parts(qweight=lambda o, i: ("I32", (i // 8, o)), qzeros=lambda o, i: ("I32", (1, o // 8)),
              scales=lambda o, i: ("F16", (1, o)), g_idx=lambda o, i: ("I32", (i,))),
        {"quant_method": "gptq", "bits": 4, "group_size": -1},
        ("GPTQ", "one for each row"),
    ),
    "awq": (
        parts(qweight=lambda o, i: ("I32", (i, o // 8)), qzeros=lambda o, i: ("I32", (i // 128, o // 8)),
              scales=lambda o, i: ("F16", (i // 128, o))),
        {"quant_method": "awq", "bits": 4, "group_size": 128},
        ("AWQ", "1 × 128"),
    ),
    "packed-int4": (
        parts(weight_packed=lambda o, i: ("I32", (o, i // 8)), weight_scale=lambda o, i: ("BF16", (o, i // 32)),
              weight_shape=plain("I64", 2)),
        {"quant_method": "compressed-tensors", "format": "pack-quantized"},
        ("packed integers", "1 × 32"),
    ),
    "packed-nvfp4": (
        parts(weight_packed=lambda o, i: ("U8", (o, i // 2)), weight_scale=lambda o, i: ("F8_E4M3", (o, i // 16)),
              weight_global_scale=plain("F32", 1), input_global_scale=plain("F32", 1)),
        {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
        ("NVFP4", "1 × 16"),
    ),
    "quark": (
        parts(weight=lambda o, i: ("U8", (o, i // 2)), weight_scale=lambda o, i: ("U8", (o, i // 32))),
        {"quant_method": "quark"},
        ("MXFP4", "1 × 32"),
    ),
    "modelopt-awq": (
        parts(weight=lambda o, i: ("U8", (o // 2, i)), weight_scale=lambda o, i: ("F32", (o, i // 128)),
              pre_quant_scale=lambda o, i: ("BF16", (i,))),
        {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"},
        ("INT4", "1 × 128"),
    ),
    "bitsandbytes-nf4": (
        parts(weight=lambda o, i: ("U8", (o * i // 2, 1)), weight__absmax=lambda o, i: ("U8", (o * i // 64,)),
              weight__quant_map=plain("F32", 16), weight__nested_absmax=plain("F32", 4),
              weight__nested_quant_map=plain("F32", 256),
              weight__quant_state__bitsandbytes__nf4=plain("U8", 100)),
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        ("bitsandbytes 4-bit", None),
    ),
    "mlx": (
        parts(weight=lambda o, i: ("U32", (o, i // 8)), scales=lambda o, i: ("BF16", (o, i // 64)),
              biases=lambda o, i: ("BF16", (o, i // 64))),
        None,
        ("MLX", "1 × 64"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_in_use_is_told_and_unpacked_without_a_finding(name, tmp_path):
    linear, declared, expected = FORMATS[name]
    config = None if declared is None else {"model_type": "llama", "quantization_config": declared}
    tensors = {each.replace("quant_state.bitsandbytes.nf4", "quant_state.bitsandbytes__nf4"): kind
               for each, kind in dense(linear).items()}  # fmt: skip
    report = alone(tmp_path, tensors, config)
    assert (report.verdict, rules(report)) == ("passed", set())
    assert [(each.format, each.block, each.parameters) for each in report.structure.formats] == [(*expected, VALUES)]


def test_bits_that_are_declared_decide_where_shapes_leave_a_choice(tmp_path):
    linear = parts(
        weight=lambda o, i: ("U32", (o, i * 3 // 32)),
        scales=lambda o, i: ("BF16", (o, i // 64)),
        biases=lambda o, i: ("BF16", (o, i // 64)),
    )
    report = alone(tmp_path, dense(linear), {"quantization": {"bits": 3, "group_size": 64}})
    assert [(each.block, each.parameters) for each in report.structure.formats] == [("1 × 64", VALUES)]


FP8_BLOCKS = parts(
    weight=lambda o, i: ("F8_E4M3", (o, i)), weight_scale_inv=lambda o, i: ("F32", (-(-o // 128), -(-i // 128)))
)
TRAPS: dict[str, Tensors] = {
    "tables-that-share-one-scale": dense(
        FP8_BLOCKS,
        extra={f"model.ple.tables.{n}.weight": ("F8_E4M3", (5000, 160)) for n in range(8)}
        | {"model.ple.weight_scale": ("F32", ())},
    ),
    "scales-of-a-cache-in-the-attention": dense(
        extra={f"model.layers.{n}.self_attn.{each}_scale": ("BF16", (1,)) for n in range(4) for each in "kv"}
    ),
    "scales-of-a-cache-beside-weights": dense(
        extra={f"model.layers.{n}.self_attn.{e}_proj.{e}_scale": ("F32", ()) for n in range(4) for e in "kv"}
    ),
    "parameters-named-scale": {
        f"layers.{n}.{name}": kind
        for n in range(6)
        for name, kind in {
            "attn_norm.scale": ("F32", (64,)), "hc_attn_scale": ("F32", (3,)), "attn.kernel": ("F32", (64, 64)),
        }.items()
    },
    "biases-without-weights-and-scalars": {
        f"layers.{n}.{name}": kind
        for n in range(6)
        for name, kind in {
            "A_log": ("F32", (8,)), "dt_bias": ("F32", (8,)), "steps": ("I64", ()), "conv.weight": ("F32", (64, 1, 4)),
        }.items()
    },
    "fused-experts": {
        f"model.layers.{n}.mlp.experts.{name}": kind
        for n in range(4)
        for name, kind in {
            "gate_up_proj": ("F8_E4M3", (8, 256, 384)), "gate_up_proj_scale_inv": ("F32", (8, 2, 3)),
            "down_proj": ("F8_E4M3", (8, 384, 128)), "down_proj_scale_inv": ("F32", (8, 3, 1)),
        }.items()
    },
    "fused-experts-in-blocks": {
        f"model.layers.{n}.mlp.experts.{name}": kind
        for n in range(4)
        for name, kind in {
            "gate_up_proj_blocks": ("U8", (8, 128, 8, 16)), "gate_up_proj_scales": ("U8", (8, 128, 8)),
            "gate_up_proj_bias": ("BF16", (8, 128)), "down_proj_blocks": ("U8", (8, 256, 4, 16)),
            "down_proj_scales": ("U8", (8, 256, 4)), "down_proj_bias": ("BF16", (8, 256)),
        }.items()
    },
    "an-odd-input-padded": dense(
        parts(weight=lambda o, i: ("U8", (o, 45)), weight_scale=lambda o, i: ("F8_E4M3", (o, 6)),
              weight_scale_2=plain("F32"))
    ),
    "a-marker-in-fp8": dense(FP8_BLOCKS, extra={"scaled_fp8": ("F8_E4M3", (2,))}),
    "numbers-that-a-sequence-leaves-out": {
        **{f"mlp.{n}.weight": ("F32", (8, 8)) for n in (0, 2, 4)},
        **{f"mlp.{n}.bias": ("F32", (8,)) for n in (0, 2, 4)},
        **{f"features.{n}.weight": ("F32", (8, 3, 3, 3)) for n in (0, 3, 6, 8)},
        **{f"model.{n}.cv.conv.weight": ("F32", (8, 8, 1, 1)) for n in range(12) if n != 10},
    },
    "layers-that-share-keys": {
        name: kind
        for name, kind in dense(layers=8).items()
        if not any(f"layers.{n}.self_attn.{each}_" in name for n in (5, 6, 7) for each in "kv")
    },
    "adapters-of-some-layers": {
        f"base.layers.{n}.q_proj.lora_{each}.weight": ("F32", (8, 64)) for n in (1, 5, 9) for each in "AB"
    },
    "one-scalar": {"x": ("F32", ())},
    "names-with-marks": {
        "a#b": ("F32", (2,)), "a\nb": ("F32", (2,)), "1.2.3.4.5.6": ("F32", (1,)), ".": ("F32", (1,)),
        ".weight": ("F32", (1,)), "0": ("F32", ()), "layers.999999999.weight": ("F32", (2,)),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TRAPS)
def test_what_releases_and_programs_write_is_no_fault(name, tmp_path):
    report = alone(tmp_path, TRAPS[name])
    assert (report.verdict, rules(report)) == ("passed", set())


def test_a_first_layer_without_its_norm_is_a_note(tmp_path):
    tensors = {name: kind for name, kind in dense(layers=8).items() if name != "model.layers.0.input_layernorm.weight"}
    report = alone(tmp_path, tensors)
    assert (report.verdict, rules(report)) == ("passed", {"NAM204"})


def test_weights_that_were_cast_to_fp8_are_a_warning_alone(tmp_path):
    report = alone(tmp_path, dense(parts(weight=lambda o, i: ("F8_E4M3", (o, i)))))
    assert (report.verdict, rules(report)) == ("passed", {"QNT206"})


def test_a_fused_tensor_without_its_scale_is_told_of(tmp_path):
    tensors = dict(TRAPS["fused-experts"])
    del tensors["model.layers.2.mlp.experts.down_proj_scale_inv"]
    report = alone(tmp_path, tensors)
    assert (report.verdict, rules(report)) == ("failed", {"QNT201"})


def test_numbers_beyond_all_bounds_cost_nothing(tmp_path):
    tensors: Tensors = {
        f"model.layers.{n}.mlp.experts.{n * 999_983 % 10**9}.w.weight": ("F32", (1,)) for n in range(3000)
    }
    tensors |= {f"stack{n}.layers.{10**8 * (n % 9 + 1)}.a.weight": ("F32", (1,)) for n in range(3000)}
    report = alone(tmp_path, tensors)
    assert report.verdict in ("passed", "failed")
    assert report.run.duration_s < 30


@pytest.mark.parametrize(
    ("weight", "scale", "found"),
    [
        ((576, 7168), (5, 56), Block(128, 128)),
        ((27136, 6144), (216, 48), Block(128, 128, 8)),
        ((512, 5120), (16, 160), Block(32, 32)),
        ((384_006_168, 256), (384_006_168, 8), Block(1, 32)),
        ((2048, 7168), (2048, 448), Block(1, 16)),
        ((2048, 7168), (2048, 1), Block(1, 0)),
        ((2048, 7168), (2048,), Block(1, 0)),
        ((2048, 7168), (1,), Block(0, 0)),
        ((2048, 7168), (), Block(0, 0)),
        ((8, 256, 384), (8, 2, 3), Block(128, 128)),
        ((64, 4, 4, 4), (64, 1, 1, 1), Block(1, 0)),
        ((100, 100), (1, 1), Block(0, 0)),
    ],
)
def test_a_block_is_solved_from_two_shapes(weight, scale, found):
    assert blocks(weight, scale)[0] == found


@pytest.mark.parametrize(
    ("weight", "scale"),
    [
        ((2048, 7168), (56, 16)),
        ((2048, 7168), (4096, 56)),
        ((576, 7168), (4, 56)),
        ((2048, 7168), (0, 56)),
        ((8,), (3,)),
    ],
)
def test_shapes_that_no_block_joins_have_none(weight, scale):
    assert not [each for each in blocks(weight, scale) if each.usual]


@pytest.mark.parametrize(
    ("name", "stem", "part"),
    [
        ("a.b.weight", "a.b", "weight"),
        ("a.b.weight_scale_inv", "a.b", "weight_scale_inv"),
        ("a.weight.absmax", "a", "weight.absmax"),
        ("a.weight.quant_state.bitsandbytes__nf4", "a", "weight.quant_state.bitsandbytes__nf4"),
        ("a.hc_attn_scale", "a.hc_attn_scale", ""),
        ("a.A_log", "a.A_log", ""),
        ("weight", "weight", ""),
        ("", "", ""),
    ],
)
def test_a_name_is_a_stem_and_what_is_under_it(name, stem, part):
    assert split(name) == (stem, part)
