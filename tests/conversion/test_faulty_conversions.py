"""What goes wrong in conversions is found, and named where it shows in the values."""

import pytest
import torch

from auditor.forge import forge
from auditor.patterns import expand
from tests.conversion.converted import (
    SCALE,
    cast,
    loaded,
    quantised,
    saved,
    spread,
    weight_dequant,
    weight_quant,
    weight_quant_ue8m0,
)

EXPERT = "model.layers.2.mlp.experts.{}.gate_proj.weight"
# A weight of several blocks each way (448 × 320: a grid of 4 × 3).
ONE = "model.layers.0.mlp.up_proj.weight"


def _different(values):
    return {each.new: each for each in values.tensors if each.relation == "different"}


def _bf16(scale):
    return scale.bfloat16().float()


def _varied(codes):
    """Scales that differ from block to block, as those of trained weights do."""
    torch.manual_seed(7)
    return {
        name: each * torch.exp(torch.randn_like(each)) if name.endswith(SCALE) else each for name, each in codes.items()
    }


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda _, scale: torch.ones_like(scale), "the raw codes, without their scales"),
        (lambda _, scale: scale * scale, "scales applied twice"),
        (lambda _, scale: 1 / scale, "scales inverted"),
        (lambda _, scale: _bf16(scale), "scales rounded through BF16"),
        (lambda _, scale: scale * 2, "every value times 2"),
    ],
)
def test_a_cast_by_wrong_scales_is_named_for_every_weight(ask, codes, change, named):
    values = ask(cast(codes, change=change))
    assert values.verdict == "unfaithful"
    found = _different(values)
    weights = {name.removesuffix(SCALE) for name in codes if name.endswith(SCALE)}
    assert found.keys() <= weights
    assert len(found) >= 0.9 * len(weights)  # a scale may be a number of BF16, or round every value as one
    assert {each.fault for each in found.values()} == {named}
    assert all(named in each.message for each in found.values())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda scale: scale.T.reshape(scale.shape), "a transposed grid of scales"),
        (lambda scale: scale.roll(1, 0), "a grid of scales shifted by 1 block down"),
        (lambda scale: scale.roll(-1, 1), "a grid of scales shifted by 1 block left"),
        (lambda scale: scale.flatten()[[3, 0, 7, 1, 2, 11, 5, 4, 6, 10, 8, 9]].reshape(scale.shape), "a permuted grid"),
        (lambda scale: scale * torch.linspace(0.5, 3, scale.numel()).reshape(scale.shape), "other scales"),
    ],
)
@pytest.mark.parametrize("to", ["bf16", "fp8"])
def test_a_grid_in_the_wrong_place_is_named(ask, codes, change, named, to):
    old = _varied(codes)
    if to == "bf16":
        new = cast(old, change=lambda name, scale: change(scale) if name == ONE else scale)
    else:
        new = {**old, ONE + SCALE: change(old[ONE + SCALE])}
    values = ask(new, old=old)
    assert values.verdict == "unfaithful"
    ((name, tensor),) = _different(values).items()
    assert name == ONE
    assert tensor.fault.startswith(named)
    assert tensor.first is not None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda scale: scale.T.reshape(scale.shape), "a transposed grid of scales"),
        (lambda scale: scale.roll(1, 1), "a grid of scales shifted by 1 block right"),
        (lambda scale: 1 / scale, "scales inverted"),
        (lambda scale: scale * scale, "scales applied twice"),
        (_bf16, "scales rounded through BF16"),
    ],
)
def test_a_quantisation_with_wrong_scales_is_named(ask, codes, change, named):
    wide = cast(_varied(codes), torch.float32)
    made = quantised(wide, codes, weight_quant)
    values = ask({**made, ONE + SCALE: change(made[ONE + SCALE])}, old=wide)
    assert values.verdict == "unfaithful"
    ((name, tensor),) = _different(values).items()
    assert name == ONE
    assert named in tensor.fault


def test_scales_rounded_through_bf16_are_found_with_the_same_codes(ask, codes):
    made = {name: _bf16(each) if name.endswith(SCALE) else each for name, each in codes.items()}
    values = ask(made)
    assert values.verdict == "unfaithful"
    assert {each.fault for each in _different(values).values()} == {"scales rounded through BF16"}
    # Stored as BF16 they are as good as that dtype allows.
    stored = {name: each.bfloat16() if name.endswith(SCALE) else each for name, each in made.items()}
    values = ask(stored)
    assert values.verdict == "lossy"
    assert any("scales to the nearest BF16" in each for each in values.conversions)


def test_one_stale_tensor_of_another_checkpoint_is_found(ask, codes, tmp_path):
    forge(tmp_path / "other", like="tiny", seed=1)
    name = EXPERT.format(3)
    values = ask({**cast(codes), name: cast(loaded(tmp_path / "other"))[name]})
    assert values.verdict == "unfaithful"
    ((found, tensor),) = _different(values).items()
    assert found == name
    assert tensor.rms_error > 1
    assert abs(tensor.likeness) < 0.1
    assert tensor.blocks_unlike == tensor.blocks


def test_a_stale_f32_tensor_and_wrong_scales_in_a_cast_to_f32_are_no_rounding(ask, codes):
    """F32 holds whatever F32 held, so that nothing of it can have been cut off."""
    bias = "model.layers.3.mlp.gate.e_score_correction_bias"
    made = {**cast(codes, torch.float32), bias: codes[bias].flip(0)}
    made[ONE] = weight_dequant(codes[ONE], 1 / codes[ONE + SCALE])
    values = ask(made)
    assert values.verdict == "unfaithful"
    found = _different(values)
    assert found.keys() == {bias, ONE}
    assert found[ONE].fault == "scales inverted"


def test_a_plain_tensor_that_differs_a_little_is_not_said_to_have_scales(ask, codes, tmp_path):
    """Norms near 1 of two checkpoints are each other's times a factor near 1."""
    forge(tmp_path / "other", like="tiny", seed=1)
    norm = "model.layers.3.input_layernorm.weight"
    values = ask({**cast(codes), norm: loaded(tmp_path / "other")[norm]})
    assert {name: each.fault for name, each in _different(values).items()} == {norm: ""}


def test_what_differs_where_a_code_is_zero_is_held_against_the_least_code(ask, codes):
    """And not against the least number of BF16, of which every weight is 10^36 times as much."""
    old = {**codes, ONE: codes[ONE].clone()}
    old[ONE].view(torch.uint8)[200, 17] = 0
    made = cast(old)
    made[ONE][200, 17] = 0.01
    ((name, tensor),) = _different(ask(made, old=old)).items()
    assert (name, tensor.beyond) == (ONE, 1)
    assert tensor.largest_error == pytest.approx(0.01 / (float(codes[ONE + SCALE][1, 0]) * 2**-9), rel=0.01)


def test_scales_rounded_through_bf16_are_told_also_where_values_stay_within_the_bound(ask, codes):
    """As where a weight's blocks happen to have scales that BF16 hardly moves."""
    made = cast(codes, change=lambda _, scale: _bf16(scale))
    assert {each.relation for each in ask(made).tensors} == {"different"}


def test_a_tensor_of_a_step_later_is_found_with_how_far_it_is(ask, codes):
    made = cast(codes)
    made[ONE] = (made[ONE].float() * (1 + 0.01 * torch.randn(made[ONE].shape))).bfloat16()
    values = ask(made)
    ((name, tensor),) = _different(values).items()
    assert name == ONE
    assert 0.005 < tensor.rms_error < 0.02
    assert tensor.likeness > 0.99
    assert tensor.fault == ""


def test_one_flipped_bit_is_found_where_it_is(ask, codes):
    made = cast(codes)
    bits = made[ONE].view(torch.int16).clone()
    bits[200, 17] ^= 0x0100
    values = ask({**made, ONE: bits.view(torch.bfloat16)})
    ((name, tensor),) = _different(values).items()
    assert (name, tensor.beyond, tensor.blocks_unlike) == (ONE, 1, 1)
    assert (tensor.first.row, tensor.first.column) == (200, 17)
    assert tensor.first.bytes[1] - tensor.first.bytes[0] == 2


def test_a_flipped_bit_of_plain_values_and_of_whole_numbers_is_found(ask, codes, tmp_path):
    norm = "model.layers.1.input_layernorm.weight"
    bits = codes[norm].view(torch.int16).clone()
    bits[5] ^= 0x4000
    table = {"tid2eid": torch.arange(24).reshape(6, 4)}
    other = {"tid2eid": table["tid2eid"].clone()}
    other["tid2eid"][3, 2] = 99
    values = ask({**codes, norm: bits.view(torch.bfloat16), **other}, old={**codes, **table})
    found = _different(values)
    assert found.keys() == {norm, "tid2eid"}
    assert (found["tid2eid"].first.row, found["tid2eid"].first.column) == (3, 2)


def test_experts_renumbered_are_told_as_whose_values_they_hold(ask, codes):
    made = cast(codes)
    order = {0: 1, 1: 2, 2: 0}
    turned = {EXPERT.format(new): made[EXPERT.format(old)] for new, old in order.items()}
    values = ask({**made, **turned})
    found = _different(values)
    assert found.keys() == turned.keys()
    for new, old in order.items():
        assert found[EXPERT.format(new)].fault == f"another expert's values, those of OLD's '{EXPERT.format(old)}'"


def test_experts_renumbered_while_they_are_quantised_are_told_too(ask, codes):
    wide = cast(codes)
    made = quantised(wide, codes, weight_quant_ue8m0)
    for last in ("", SCALE):
        one, other = EXPERT.format(4) + last, EXPERT.format(5) + last
        made[one], made[other] = made[other], made[one]
    found = _different(ask(made, old=wide))
    assert found.keys() == {EXPERT.format(4), EXPERT.format(5)}
    assert EXPERT.format(5) in found[EXPERT.format(4)].fault


def test_a_dropped_mtp_module_is_a_loss_unless_the_config_drops_it(ask, codes):
    kept = {name: each for name, each in cast(codes).items() if not name.startswith("model.layers.4.")}
    values = ask(kept)
    assert values.verdict == "unfaithful"
    names = {name for each in values.left_out for pattern in each.patterns for name in expand(pattern)}
    assert names == {name for name in codes if name.startswith("model.layers.4.")}
    assert "left out" in values.conclusion
    assert ask(kept, changes={"num_nextn_predict_layers": 0}).verdict == "faithful"


def test_a_dropped_layer_is_a_loss_whatever_the_config_says(ask, codes):
    kept = {name: each for name, each in cast(codes).items() if not name.startswith("model.layers.3.")}
    values = ask(kept, changes={"num_hidden_layers": 3, "num_nextn_predict_layers": 0})
    assert values.verdict == "unfaithful"


@pytest.mark.parametrize(("axis", "named"), [(0, "rows"), (1, "columns")])
@pytest.mark.parametrize("side", [0, 1])
def test_a_merge_that_kept_one_side_is_named(ask, codes, axis, named, side):
    made = cast(codes)
    half = made[ONE].chunk(2, axis)[side]
    values = ask({**made, ONE: torch.cat([half, half], axis)})
    ((name, tensor),) = _different(values).items()
    assert name == ONE
    assert tensor.fault == f"one half of its {named} is the other half again"


def test_a_transposed_square_weight_is_named(ask, tmp_path):
    weight = torch.randn(256, 256) * 0.02
    fp8, scale = weight_quant(weight)
    sides = {
        "old": {"a.weight": fp8, "a.weight_scale_inv": scale},
        "new": {"a.weight": weight_dequant(fp8, scale).T.bfloat16()},
    }
    paths = [saved(tmp_path / n, each, {"model_type": "x"}, shards=1) for n, each in sides.items()]
    values = ask(paths[1], old=paths[0])
    assert values.tensors[0].fault == "the weight transposed"


def test_another_shape_is_told_with_both(ask, codes):
    values = ask({**cast(codes), ONE: torch.zeros(7, 5, dtype=torch.bfloat16)})
    ((name, tensor),) = _different(values).items()
    assert name == ONE
    assert tensor.message == "its shape is (7, 5), OLD's is (448, 320)"
    assert values.tensors[0].new == ONE


def test_codes_that_lost_their_scales_are_named(ask, codes):
    values = ask({name: each for name, each in codes.items() if name != ONE + SCALE})
    assert _different(values)[ONE].fault == "its scales are not there"


def test_a_scale_that_is_far_larger_than_need_be_is_no_rounding(ask, codes):
    wide = {n: torch.randn_like(e.float()).mul(0.02).bfloat16() if n == ONE else e for n, e in cast(codes).items()}
    made = quantised(wide, codes, weight_quant)
    coarse = made[ONE + SCALE] * 4096
    made[ONE], made[ONE + SCALE] = (wide[ONE].float() / spread(coarse, wide[ONE].shape)).to(torch.float8_e4m3fn), coarse
    assert _different(ask(made, old=wide)).keys() == {ONE}


def test_a_scale_that_is_too_small_cuts_what_is_large(ask, codes):
    wide = {n: torch.randn_like(e.float()).mul(0.02).bfloat16() if n == ONE else e for n, e in cast(codes).items()}
    made = quantised(wide, codes, weight_quant)
    small = made[ONE + SCALE] / 4
    cut = (wide[ONE].float() / spread(small, wide[ONE].shape)).clamp(-448, 448).to(torch.float8_e4m3fn)
    values = ask({**made, ONE: cut, ONE + SCALE: small}, old=wide)
    assert _different(values).keys() == {ONE}


def test_values_that_became_no_numbers_come_first_and_are_valid_json(ask, codes):
    made = cast(codes, torch.float32)
    made[ONE] = made[ONE].clone()
    made[ONE][3, 4] = torch.inf
    made[EXPERT.format(0)] = made[EXPERT.format(0)].clone()
    made[EXPERT.format(0)][0, 0] = torch.nan
    values = ask(made)
    found = _different(values)
    assert {each.beyond for each in found.values()} == {1}
    assert "inf" in found[ONE].first.new
    assert "Infinity" not in values.model_dump_json()
    assert "NaN" not in values.model_dump_json()


def test_nan_stays_nan_and_zeros_have_no_sign(ask, codes):
    old = dict(codes)
    raw = old[ONE].view(torch.uint8).clone()
    raw[0, 0], raw[0, 1], raw[0, 2] = 0x7F, 0xFF, 0x80
    old[ONE] = raw.view(torch.float8_e4m3fn)
    made = cast(old)
    made[ONE] = made[ONE] + 0.0  # the zero loses its sign
    values = ask(made, old=old)
    assert values.verdict == "faithful"


def test_f16_that_overflows_differs(ask, codes):
    wide = {n: e.float() * 1e7 if n == ONE else e for n, e in cast(codes, torch.float32).items()}
    values = ask({n: e.half() if n == ONE else e for n, e in wide.items()}, old=wide)
    ((name, tensor),) = _different(values).items()
    assert name == ONE
    assert tensor.first.new in ("inf", "-inf")


def test_4_bit_codes_are_paired_and_said_to_be_not_compared(ask, codes):
    made = cast(codes)
    packed = {
        ONE: torch.randint(0, 255, (448, 160), dtype=torch.uint8),
        ONE + "_scale": torch.ones(448, 20).to(torch.float8_e4m3fn),
        ONE + "_scale_2": torch.tensor(1.0),
        ONE.replace("weight", "input_scale"): torch.tensor(1.0),
    }
    values = ask({**made, **packed})
    assert values.verdict == "undecided"
    assert values.not_compared == ("values of NVFP4 of 1 tensor",)
    assert not values.left_out
    assert not values.added
    other = {**packed, ONE: torch.zeros(448, 160, dtype=torch.uint8)}
    assert ask({**made, **packed}, old={**made, **packed}).verdict == "faithful"
    assert ask({**made, **other}, old={**made, **packed}).verdict == "undecided"
    wrong = {**made, **packed, EXPERT.format(0): torch.zeros(192, 320, dtype=torch.bfloat16)}
    assert ask(wrong).verdict == "unfaithful"
