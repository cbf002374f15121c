"""Sound conversions, by formulas that others publish, are told with the formula."""

from collections import Counter

import pytest
import torch

from auditor.patterns import expand
from tests.conversion.converted import (
    SCALE,
    cast,
    quantised,
    saved,
    spread,
    weight_dequant,
    weight_quant,
    weight_quant_reciprocal,
    weight_quant_ue8m0,
)


def _relations(values):
    counts = Counter()
    for kind in values.kinds:
        counts[kind.relation] += kind.count
    return counts


def _noise(like):
    return torch.randn_like(like.float()) * 0.02


def test_the_same_checkpoint_is_the_same_bytes(ask, fp8, codes):
    values = ask(fp8)
    assert values.verdict == "faithful"
    assert _relations(values) == {"same_bytes": sum(not name.endswith(SCALE) for name in codes)}
    assert values.bytes_read == values.bytes_total


@pytest.mark.parametrize(("dtype", "named"), [(torch.bfloat16, "to the nearest BF16"), (torch.float32, "exact in F32")])
def test_published_cast_has_the_same_values(ask, codes, dtype, named):
    values = ask(cast(codes, dtype))
    weights = sum(name.endswith(SCALE) for name in codes)
    assert values.verdict == "faithful"
    assert _relations(values)["same_values"] == weights
    assert named in values.conversions[0]
    assert not values.tensors
    assert not values.left_out


def test_a_cast_to_f16_that_holds_every_value_has_the_same_values(ask, codes):
    values = ask(cast(codes, torch.float16))
    assert values.verdict == "faithful"
    assert "to the nearest F16" in values.conversions[0]


def test_the_source_of_a_cast_is_as_faithful(ask, codes, fp8):
    assert ask(fp8, old=cast(codes)).verdict == "faithful"


@pytest.mark.parametrize(
    ("quantise", "formula"),
    [
        (weight_quant, "amax / 448"),
        (weight_quant_ue8m0, "ue8m0: 2^ceil(log2(amax / 448))"),
        (weight_quant_reciprocal, "1 / (448 / amax)"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_published_quantisation_is_told_with_its_formula(ask, codes, quantise, formula, dtype):
    wide = {name: _noise(each).to(dtype) if each.dim() > 1 else each for name, each in cast(codes).items()}
    values = ask(quantised(wide, codes, quantise), old=wide)
    assert values.verdict == "faithful"
    kind = next(kind for kind in values.kinds if kind.relation == "requantised")
    assert kind.formula == formula
    assert kind.count == sum(name.endswith(SCALE) for name in codes)
    assert 0.02 < kind.rms_error < 0.05
    # The other way round the same follows: OLD's codes are those of NEW's values.
    back = ask(wide, old=quantised(wide, codes, quantise))
    assert back.verdict == "faithful"
    assert next(kind for kind in back.kinds if kind.relation == "requantised").formula == formula


def test_scales_in_bf16_are_told_with_the_formula(ask, codes):
    wide = {name: _noise(each).bfloat16() if each.dim() > 1 else each for name, each in cast(codes).items()}
    values = ask(quantised(wide, codes, weight_quant, torch.bfloat16), old=wide)
    assert values.verdict == "faithful"
    assert any("amax / 448, scales to the nearest BF16" in each for each in values.conversions)


def test_scales_in_e8m0_have_the_values_of_powers_of_two(ask, codes):
    wide = cast(codes)
    powers = quantised(wide, codes, weight_quant_ue8m0)
    exponents = {n: e.to(torch.float8_e8m0fnu) if n.endswith(SCALE) else e for n, e in powers.items()}
    values = ask(exponents, old=powers)
    assert values.verdict == "faithful"
    assert _relations(values)["same_values"] == sum(name.endswith(SCALE) for name in codes)


@pytest.mark.parametrize("between", [torch.float32, torch.bfloat16])
def test_scales_made_powers_of_two_requantise_every_block(ask, codes, between):
    values = ask(quantised(cast(codes, between), codes, weight_quant_ue8m0))
    assert values.verdict == "faithful"
    formulas = {kind.formula for kind in values.kinds if kind.relation == "requantised"}
    assert all(each.startswith("ue8m0") for each in formulas)
    assert any("values rounded to BF16" in each for each in formulas) == (between is torch.bfloat16)


@pytest.mark.parametrize("between", [torch.float32, torch.bfloat16])
def test_fp8_made_of_fp8_by_way_of_floats_follows_by_the_formula_where_codes_survive_too(ask, codes, between):
    """Codes come back, and scales move: by their last bit in F32, by what BF16 rounds of the largest weight."""
    values = ask(quantised(cast(codes, between), codes, weight_quant))
    assert values.verdict == "faithful"
    assert {kind.formula for kind in values.kinds if kind.relation == "requantised"} <= {
        "amax / 448",
        "amax / 448 of values rounded to BF16",
    }


def test_f32_rounded_to_bf16_is_lossy_with_its_errors(ask, codes):
    wide = cast(codes, torch.float32)
    values = ask(
        {n: e.bfloat16() if e.dtype == torch.float32 and e.dim() > 1 else e for n, e in wide.items()}, old=wide
    )
    assert values.verdict == "lossy"
    kind = next(kind for kind in values.kinds if kind.relation == "rounded")
    assert kind.formula == "to the nearest BF16"
    assert 2**-10 < kind.largest_error <= 2**-8
    assert 0 < kind.rms_error < kind.largest_error


def test_bf16_cut_to_size_is_lossy_and_says_so(ask, codes):
    wide = cast(codes, torch.float32)

    def cut(each):
        return (each.view(torch.int32) & -65536).view(torch.float32).bfloat16()

    values = ask({n: cut(e) if e.dtype == torch.float32 and e.dim() > 1 else e for n, e in wide.items()}, old=wide)
    assert values.verdict == "lossy"
    assert any("towards zero" in each for each in values.conversions)


def test_codes_by_no_known_formula_within_the_bound_are_lossy_and_told_as_such(ask, codes):
    wide = cast(codes)

    def scaled_to_300(weight):
        scale = weight_quant(weight)[1] * (448 / 300)
        return (weight.float() / spread(scale, weight.shape)).to(torch.float8_e4m3fn), scale

    noisy = {n: _noise(e).bfloat16() if n + SCALE in codes else e for n, e in wide.items()}
    values = ask(quantised(noisy, codes, scaled_to_300), old=noisy)
    assert values.verdict == "lossy"
    kind = next(kind for kind in values.kinds if kind.relation == "rounded")
    assert kind.largest_error <= 2**-4 * 1.001
    assert any(each.endswith("by no known formula") for each in values.conversions)


def test_a_renamed_checkpoint_is_paired_by_its_digests(ask, codes):
    values = ask({name.replace("model.layers.", "blocks."): each for name, each in codes.items()})
    assert values.verdict == "faithful"
    assert not values.left_out
    assert not values.added
    assert _relations(values) == {"same_bytes": sum(not name.endswith(SCALE) for name in codes)}


def test_renamed_and_converted_at_once_takes_a_map(ask, codes, tmp_path):
    def renamed(name):
        return name.replace("model.layers.", "layers_").replace(".mlp.", ".ffn.")

    made = {renamed(name): each for name, each in cast(codes).items()}
    assert ask(made).verdict == "unfaithful"
    lines = ["# as the converter names them"]
    kinds = {".".join("*" if part.isdigit() else part for part in name.split(".")) for name in codes}
    for kind in sorted(kinds):
        if kind.startswith("model.layers."):
            lines.append(f"{kind} => {renamed(kind)}")
    (tmp_path / "map.txt").write_text("\n".join(lines))
    values = ask(made, map=str(tmp_path / "map.txt"))
    assert values.verdict == "faithful"
    assert not values.left_out


@pytest.mark.parametrize("shards", [1, 2, 7])
def test_other_shards_in_another_order_change_nothing(ask, codes, config, tmp_path, shards):
    made = saved(tmp_path / "made", cast(codes), config, shards=shards, order=lambda names: sorted(names)[::-1])
    assert ask(made).verdict == "faithful"


def test_a_module_that_the_new_config_drops_is_no_loss(ask, codes):
    kept = {name: each for name, each in cast(codes).items() if not name.startswith("model.layers.4.")}
    values = ask(kept, changes={"num_nextn_predict_layers": 0})
    assert values.verdict == "faithful"
    assert {each.excused for each in values.left_out} == {"num_nextn_predict_layers of NEW is 0"}


def test_what_is_new_is_told_and_is_no_loss(ask, codes):
    values = ask({**cast(codes), "model.layers.0.extra.weight": torch.ones(4, 4)})
    assert values.verdict == "faithful"
    assert [list(expand(each.patterns[0])) for each in values.added] == [["model.layers.0.extra.weight"]]


def test_a_checkpoint_of_no_known_family_is_compared_all_the_same(ask, codes, config, tmp_path):
    alien = {"model_type": "somebody-elses", "hidden_size": 320}
    names = {name.replace("model.", "net.").replace("_scale_inv", "_scale"): each for name, each in codes.items()}
    made = {name.replace("model.", "net."): each for name, each in cast(codes).items()}
    old = saved(tmp_path / "alien", names, alien)
    values = ask(saved(tmp_path / "cast", made, alien), old=old)
    assert values.verdict == "faithful"
    assert _relations(values)["same_values"] == sum(name.endswith(SCALE) for name in codes)


def test_one_scale_for_a_weight_is_a_grid_of_one_block(ask, codes, tmp_path):
    name = "model.layers.0.mlp.gate_proj.weight"
    scale = torch.tensor(0.0017)
    old = saved(tmp_path / "one", {name: codes[name], name + "_scale": scale}, {"model_type": "somebody-elses"})
    new = saved(tmp_path / "two", {name: (codes[name].float() * scale).bfloat16()}, {"model_type": "somebody-elses"})
    assert ask(new, old=old).verdict == "faithful"


def test_fused_experts_with_a_grid_each_are_read_block_by_block(ask, tmp_path):
    weight = torch.randn(3, 200, 300) * 0.02
    parts = [weight_quant(each) for each in weight]
    old = {"experts.gate_up_proj": torch.stack([codes for codes, _ in parts]),
           "experts.gate_up_proj_scale_inv": torch.stack([scale for _, scale in parts])}  # fmt: skip
    new = {"experts.gate_up_proj": torch.stack([weight_dequant(*each) for each in parts]).bfloat16()}
    sides = [saved(tmp_path / n, t, {"model_type": "x"}, shards=1) for n, t in (("one", old), ("two", new))]
    values = ask(sides[1], old=sides[0])
    assert values.verdict == "faithful"
    assert _relations(values) == {"same_values": 1}


def test_transformers_dequantises_and_quantises_the_same(ask, codes, tmp_path):
    """Its fine-grained FP8: whole blocks alone, as its reshape has them, and its own way to quantise."""
    weight = (torch.randn(1024, 1152) * 0.02).float()
    blocks = weight.reshape(-1, 8, 128, 9, 128).permute(0, 1, 3, 2, 4)
    factor = 448.0 / blocks.abs().amax(dim=(-1, -2))
    made = torch.clamp(blocks * factor[..., None, None], -448.0, 448.0).to(torch.float8_e4m3fn)
    made = made.permute(0, 1, 3, 2, 4).reshape(1024, 1152)
    scale = factor.squeeze().reciprocal()
    fp8 = {"a.weight": made, "a.weight_scale_inv": scale}
    whole = {"a.weight": (made.reshape(8, 128, 9, 128).to(scale.dtype) * scale[:, None, :, None]).reshape(1024, 1152)}
    sides = {
        name: saved(tmp_path / name, each, {"model_type": "x"}, shards=1)
        for name, each in (("floats", {"a.weight": weight}), ("fp8", fp8), ("whole", whole))
    }
    quantised = ask(sides["fp8"], old=sides["floats"])
    assert (quantised.verdict, quantised.kinds[0].formula) == (
        "faithful",
        "1 / (448 / amax) with 448 / amax as 1 / amax × 448",
    )
    assert ask(sides["whole"], old=sides["fp8"]).verdict == "faithful"
