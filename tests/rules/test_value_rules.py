"""Rules about values, by their smallest facts: what they find, where they say it is, and what they let pass."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from auditor.comparison.value_facts import NOT_READ, content_facts, count_value_subjects
from auditor.content.probes import Probes
from auditor.content.values import BlockNote, BlockValues, Position, ScaleValues, ShardValues, TensorValues
from auditor.format.entries import Shard, TensorHeader, elements
from auditor.inventory.facts import Blocked, Inventory
from auditor.patterns import kind_of
from auditor.rules import catalogue
from auditor.verdict.attribute import attribute
from auditor_schemas.policy import DEFAULT_POLICY
from auditor_schemas.rule import Failure

RULES = {module.rule.slug: module for module in catalogue() if module.rule.id.startswith("VAL")}
CHECKS = {slug: module.check for slug, module in RULES.items()}
WEIGHT = "model.layers.3.mlp.experts.7.up_proj.weight"
SCALE = f"{WEIGHT}_scale_inv"
TYPICAL = 1.8e-4


def _probes(*tensors: TensorValues, depth: Any = "full", powers_of_two: bool = False, **more: Any) -> Probes:
    shard = ShardValues(file="a.safetensors", size=1 << 30, tensors=tensors, bytes_read=0, **more)
    return Probes(depth=depth, seed=1, device="cpu", shards=(shard,), powers_of_two=powers_of_two)


def _tensor(name: str, shape: tuple[int, ...] = (256, 384), dtype: str = "BF16", **more: Any) -> TensorValues:
    values = {"read": elements(shape), "minimum": -1.0, "maximum": 1.0} | more
    return TensorValues(name=name, file="a.safetensors", dtype=dtype, shape=shape, elements=elements(shape), **values)


def _scales(name: str = SCALE, median: float = TYPICAL, **more: Any) -> TensorValues:
    """A grid of 2 × 3 scales, sound but for what is said."""
    values = {
        "values": 6, "columns": 3, "minimum": median / 2, "median": median, "maximum": median * 2,
        "exponents": {-13: 6}, "largest": Position(4, 116, 120, f"{median * 2:.3g}"),
    } | more  # fmt: skip
    return _tensor(name, (2, 3), "F32", scales=ScaleValues(**values))


def _weight(name: str = WEIGHT, **blocks: Any) -> TensorValues:
    return _tensor(
        name, dtype="F8_E4M3", minimum=-448.0, maximum=448.0, blocks=BlockValues(**({"blocks": 6, "exact": 6} | blocks))
    )


def _found(slug: str, *tensors: TensorValues, **more: Any) -> list[Failure]:
    probes = _probes(*tensors, **more)
    tied = SimpleNamespace(tie_word_embeddings=True)
    facts = {**content_facts(probes), "declared_digests": {}, "config": tied, "inventory": Inventory(())}
    facts["policy"] = DEFAULT_POLICY
    # Whatever the depth: what each fact is blocked by has tests of its own.
    whole = {name: probes for name, fact in facts.items() if isinstance(fact, Blocked)}
    return list(CHECKS[slug](**{name: whole.get(name, facts[name]) for name in RULES[slug].needs}))


def _one(slug: str, *tensors: TensorValues, **more: Any) -> Failure:
    (failure,) = _found(slug, *tensors, **more)
    return failure


def _expert(number: int, projection: str = "up", layer: int = 3) -> str:
    return f"model.layers.{layer}.mlp.experts.{number}.{projection}_proj.weight_scale_inv"


def test_a_sound_tensor_of_each_kind_fails_no_rule():
    tensors = (_weight(), _scales(), _tensor("model.norm.weight", (8,)), _tensor("model.embed_tokens.weight"))
    for slug in CHECKS.keys() - {"zero-filled-tail", "scale-not-power-of-two"}:
        assert _found(slug, *tensors) == [], slug


def test_nan_codes_are_counted_and_placed():
    note = BlockNote(1, 2, TYPICAL, 127, 0.0, 500, 900)
    weight = replace(_weight(first_nan=note), nan=3, first_nonfinite=Position(300, 800, 801, "nan"))
    failure = _one("nan-code", weight)
    assert "3 of 98,304 FP8 codes read are NaN" in failure.message
    assert "block row 1, column 2" in failure.message
    assert (failure.tensor, failure.file, failure.begin, failure.end) == (WEIGHT, "a.safetensors", 800, 801)


def test_nan_codes_are_found_without_a_scale_and_without_places():
    assert _one("nan-code", _tensor("w", dtype="F8_E4M3", nan=1)).message == (
        "1 of 98,304 FP8 codes read is NaN (0x7F or 0xFF)"
    )


def test_nan_and_infinity_of_a_norm_are_counted_apart():
    norm = _tensor("model.norm.weight", (8,), nan=2, infinite=1, first_nonfinite=Position(5, 10, 12, "nan"))
    failure = _one("nonfinite-value", norm)
    assert (
        failure.message
        == "2 NaN and 1 infinite of 8 BF16 values read, finite ones needed, the first (nan) at element 5"
    )
    assert failure.actual == {"nan": 2, "infinite": 1, "of": 8}


def test_a_matrix_s_value_is_placed_by_row_and_column():
    matrix = _tensor("m", (4, 10), infinite=1, first_nonfinite=Position(23, 46, 48, "inf"))
    assert ": inf at row 2, column 3" in _one("nonfinite-value", matrix).message


def test_codes_and_scales_are_other_rules_subjects_than_values():
    assert _found("nonfinite-value", replace(_weight(), nan=1), replace(_scales(), nan=1)) == []


@pytest.mark.parametrize(
    ("slug", "kind"),
    [
        ("nonfinite-scale", "nan"), ("nonfinite-scale", "infinite"), ("zero-scale", "zero"),
        ("negative-scale", "negative"), ("subnormal-scale", "subnormal"),
    ],
)  # fmt: skip
def test_a_bad_scale_is_told_with_its_weight_block_and_bytes(slug, kind):
    failure = _one(slug, _scales(**{kind: 2, "first": {kind: Position(5, 120, 124, "-0.5")}}))
    assert "2 of 6 block scales are" in failure.message
    assert "the first (-0.5) at block row 1, column 2" in failure.message
    assert (failure.tensor, failure.begin, failure.end) == (SCALE, 120, 124)
    assert failure.actual == {"weight": WEIGHT, "scales": 2, "of": 6, "block": [1, 2], "value": "-0.5"}


def test_each_kind_of_bad_scale_is_one_rule_s_alone():
    slugs = {"nonfinite-scale", "zero-scale", "negative-scale", "subnormal-scale"}
    for kind in ("nan", "infinite", "zero", "negative", "subnormal"):
        assert sum(bool(_found(slug, _scales(**{kind: 1}))) for slug in slugs) == 1


def test_the_first_of_nan_and_infinite_scales_is_the_one_placed():
    first = {"nan": Position(4, 116, 120, "nan"), "infinite": Position(1, 104, 108, "inf")}
    assert (
        "the first (inf) at block row 0, column 1"
        in _one("nonfinite-scale", _scales(nan=1, infinite=1, first=first)).message
    )


def test_zero_scales_of_a_whole_release_are_one_finding_with_counts():
    names = [_expert(number, layer=layer) for layer in range(3, 61) for number in range(256)]
    failures = _found("zero-scale", *(_scales(name, zero=6, median=0.0, exponents={}) for name in names))
    (finding,) = attribute(failures, Inventory(()))
    assert finding.count == len(names) == 14_848
    assert finding.affected == ("model.layers.{3-60}.mlp.experts.{0-255}.up_proj.weight_scale_inv",)
    assert finding.message.endswith("; 89,088 in 14,848 tensors")


def test_scales_are_powers_of_two_only_where_the_config_says_so():
    arbitrary = _scales(powers_of_two=2, first={"not_power_of_two": Position(1, 104, 108, "0.00018")})
    failure = _one("scale-not-power-of-two", arbitrary, powers_of_two=True)
    assert "4 of 6 block scales are no powers of two" in failure.message
    assert "block row 0, column 1" in failure.message
    assert _found("scale-not-power-of-two", _scales(powers_of_two=6), powers_of_two=True) == []
    assert isinstance(content_facts(_probes(arbitrary))["ue8m0_probes"], Blocked)


class TestOutlyingScale:
    """Wrong by orders of magnitude, and nothing that a sound checkpoint has."""

    def _kind(self, medians: Iterable[float]) -> list[TensorValues]:
        return [_scales(_expert(number), median) for number, median in enumerate(medians)]

    def test_a_spread_of_ten_within_a_kind_is_sound(self):
        assert _found("outlying-scale", *self._kind(TYPICAL * 10 ** (step / 10) for step in range(-5, 6))) == []

    @pytest.mark.parametrize("peers", [2, 5, 300])
    def test_a_reciprocal_grid_is_one_finding(self, peers):
        failure = _one("impossible-scale", *self._kind([TYPICAL] * peers + [1 / TYPICAL]))
        assert failure.tensor == _expert(peers)
        assert "5.56e+03" in failure.message

    def test_a_lone_reciprocal_grid_is_absurd_by_itself(self):
        assert "median scale 5.56e+03" in _one("impossible-scale", *self._kind([1 / TYPICAL])).message

    def test_a_checkpoint_of_reciprocals_is_one_finding(self):
        failures = _found("impossible-scale", *self._kind([1 / TYPICAL] * 40))
        (finding,) = attribute(failures, Inventory(()))
        assert finding.count == 40

    def test_swapped_grids_are_found_on_both_sides(self):
        up = [_scales(_expert(number), TYPICAL * (300 if number == 9 else 1)) for number in range(20)]
        down = [_scales(_expert(number, "down"), TYPICAL * (1 if number == 9 else 300)) for number in range(20)]
        assert [each.tensor for each in _found("outlying-scale", *up, *down)] == [_expert(9), _expert(9, "down")]

    @pytest.mark.parametrize("median", [TYPICAL / 700, 1e-4 / 448])
    def test_an_expert_that_is_never_chosen_decays_as_a_whole_and_is_sound(self, median):
        tensors = [
            _scales(_expert(number, projection), median if number in (4, 5) else TYPICAL)
            for number in range(8)
            for projection in ("gate", "up", "down")
        ]
        assert _found("outlying-scale", *tensors) == []

    def test_one_matrix_of_a_living_expert_does_not_decay(self):
        tensors = [_scales(_expert(number, each)) for number in range(8) for each in ("gate", "down")]
        tensors += [_scales(_expert(number), TYPICAL / 700 if number == 4 else TYPICAL) for number in range(8)]
        assert _one("outlying-scale", *tensors).tensor == _expert(4)

    def test_many_dead_experts_do_not_make_the_living_ones_outlie(self):
        clamp = 1e-4 / 448
        assert _found("outlying-scale", *self._kind([clamp] * 30 + [TYPICAL] * 10)) == []

    def test_two_tensors_cannot_say_which_is_the_odd_one(self):
        assert _found("outlying-scale", *self._kind([TYPICAL, TYPICAL / 100])) == []

    def test_a_kind_that_spreads_by_itself_has_no_outliers(self):
        assert _found("outlying-scale", *self._kind(TYPICAL * 4.0**step for step in range(-6, 6))) == []

    def test_kinds_are_not_compared_with_each_other(self):
        attention = [
            _scales(f"model.layers.{layer}.self_attn.o_proj.weight_scale_inv", TYPICAL * 200) for layer in range(9)
        ]
        assert _found("outlying-scale", *self._kind([TYPICAL] * 9), *attention) == []

    def test_a_single_scale_far_above_its_tensor_is_placed(self):
        failure = _one("outlying-scale", _scales(maximum=TYPICAL * 65536, largest=Position(4, 116, 120, "11.8")))
        assert "at block row 1, column 1 is 65,536 times the median" in failure.message
        assert (failure.begin, failure.end) == (116, 120)

    def test_the_factor_says_whether_a_model_could_have_such_weights(self):
        for factor, slug in ((65, "outlying-scale"), (2.0**19, "outlying-scale"), (2.0**21, "impossible-scale")):
            kind = [TYPICAL] * 9
            tensors = self._kind([*kind, kind[0] * factor])
            assert [each for each in ("outlying-scale", "impossible-scale") if _found(each, *tensors)] == [slug], factor

    @pytest.mark.parametrize(("maximum", "slug"), [(140.0, "outlying-scale"), (150.0, "impossible-scale")])
    def test_a_single_scale_that_makes_weights_beyond_65536_is_an_error(self, maximum, slug):
        lone = _scales(maximum=maximum, largest=Position(4, 116, 120, str(maximum)))
        assert [each for each in ("outlying-scale", "impossible-scale") if _found(each, lone)] == [slug]
        steep = _scales(median=0.5, maximum=maximum, largest=Position(4, 116, 120, str(maximum)))
        assert bool(_found("impossible-scale", steep)) == (slug == "impossible-scale")

    def test_text_in_one_grid_is_an_error_that_names_both_sizes(self):
        failure = _one("impossible-scale", *self._kind([TYPICAL] * 9 + [1e30]))
        assert failure.message == (
            "median scale 1e+30 is 5.6e+33 times the 0.00018 of 10 tensors of its kind and makes weights of 4.48e+32"
        )

    @pytest.mark.parametrize("peers", [0, 9])
    def test_scales_of_1_throughout_beside_full_codes_are_an_error(self, peers):
        ones = _scales(_expert(20), 1.0, minimum=1.0, maximum=1.0)
        weight = _weight(_expert(20).removesuffix("_scale_inv"))
        full = replace(weight, minimum=-448.0, maximum=416.0)
        failure = _one("impossible-scale", ones, full, *self._kind([TYPICAL] * peers))
        assert failure.message == "all 6 scales are 1: codes of up to 448 are taken for the weights"

    def test_scales_of_1_beside_weights_that_were_cast_to_codes_are_no_error(self):
        ones = _scales(_expert(20), 1.0, minimum=1.0, maximum=1.0)
        cast = replace(_weight(_expert(20).removesuffix("_scale_inv")), minimum=-0.1, maximum=0.15)
        for slug in ("impossible-scale", "outlying-scale"):
            assert _found(slug, ones, cast) == []

    def test_a_block_of_heavy_weights_is_sound(self):
        assert _found("outlying-scale", _scales(maximum=TYPICAL * 100)) == []

    def test_the_one_living_block_of_a_dead_tensor_is_sound(self):
        tensors = self._kind([TYPICAL] * 9)
        dead = _scales(_expert(20), 1e-4 / 448, maximum=TYPICAL * 2)
        assert _found("outlying-scale", *tensors, dead) == []
        assert _found("outlying-scale", dead) == []

    def test_scales_without_a_finite_median_are_other_rules_subjects(self):
        empty = {"median": None, "minimum": None, "maximum": None, "largest": None, "exponents": {}}
        zero = {"median": 0.0, "minimum": 0.0, "maximum": 0.0, "exponents": {}}
        tensors = [replace(_scales(), scales=ScaleValues(values=6, columns=3, **each)) for each in (empty, zero)]
        for tensor in tensors:
            assert _found("outlying-scale", tensor) == []


class TestIrreproducibleBlock:
    """Blocks that quantising cannot have left, with figures."""

    NOTE = BlockNote(4, 55, 1.79e-4, 126, 1e-7, 1000, 2000)

    def test_a_lone_weight_is_told_in_its_own_figures_and_the_first_block_is_placed(self):
        damage = {"changed": 180, "unsaturated": 170, "foreign": 180, "error": 0.0039, "first_foreign": self.NOTE}
        other = [_weight(f"v{number}", blocks=100, exact=100) for number in range(9)]
        failure = _one("irreproducible-block", _weight("w", blocks=280, exact=100, **damage), *other)
        assert failure.message == (
            "180 of 280 blocks read cannot come from scale = amax / 448: 170 lack the largest code that it leaves, "
            "values change by up to 0.39 %; the first at block row 4, column 55"
        )
        assert (failure.begin, failure.end) == (1000, 2000)

    def test_a_checkpoint_whose_blocks_all_changed_is_one_finding(self):
        names = [f"model.layers.{layer}.self_attn.o_proj.weight" for layer in range(61)]
        weights = [_weight(name, exact=4, changed=2, foreign=2, error=1e-7) for name in names]
        (finding,) = attribute(_found("irreproducible-block", *weights), Inventory(()))
        assert (finding.count, finding.severity) == (61, "warning")
        assert finding.message.startswith("122 of 366 blocks read")
        assert finding.message.endswith("in 61 weights")

    def test_scales_that_drifted_by_their_last_bit_are_sound(self):
        assert _found("irreproducible-block", _weight(exact=4, changed=2, drifted=2, error=1e-7)) == []

    def test_codes_within_240_are_one_note_and_what_that_does_not_explain_is_found(self):
        narrow = {"foreign": 6, "narrow": 6, "exact": 0, "largest": {0x77: 6}, "first_foreign": self.NOTE}
        tensors = [_weight(f"w{number}", **narrow) for number in range(4)]
        assert _found("irreproducible-block", *tensors) == []
        note = _one("narrow-codes", *tensors)
        assert note.message == (
            "no code exceeds 240, the range of E4M3FNUZ, in 24 weight blocks read; those of E4M3 reach 448"
        )
        other = BlockNote(0, 1, 1.79e-4, 0x50, 0.5, 0, 500)
        damaged = _weight("damaged", **(narrow | {"narrow": 5, "largest": {0x77: 5, 0x50: 1}, "first_other": other}))
        failure = _one("irreproducible-block", *tensors, damaged)
        assert failure.message.startswith("1 of 6 blocks read cannot come from scale = amax / 240")
        assert failure.message.endswith("the first at block row 0, column 1")
        assert failure.tensor == "damaged"

    @pytest.mark.parametrize(
        "largest", [{0x77: 6, 0x78: 1}, {0x77: 1, 0x50: 30}, {0x7E: 1, 0x77: 30}, {0x77: 15}, {0: 40}]
    )
    def test_codes_that_exceed_240_or_hardly_reach_it_are_no_range(self, largest):
        assert _found("narrow-codes", _weight(blocks=sum(largest.values()), largest=largest)) == []

    def test_value_equal_blocks_of_powers_of_two_are_sound(self):
        assert _found("irreproducible-block", _weight(exact=5, value_equal=1), powers_of_two=True) == []

    def test_the_formula_is_the_config_s(self):
        failure = _one("irreproducible-block", _weight(changed=1, foreign=1), powers_of_two=True)
        assert failure.expected == "scale = 2^ceil(log2(amax / 448))"

    @pytest.mark.parametrize(
        ("slug", "damage"),
        [
            ("nonfinite-scale", {"nan": 1}), ("zero-scale", {"zero": 1}), ("negative-scale", {"negative": 1}),
            ("subnormal-scale", {"subnormal": 1}), ("outlying-scale", {"median": 3.0}),
            ("impossible-scale", {"median": 6000.0}),
        ],
    )  # fmt: skip
    def test_a_bad_scale_explains_the_blocks_of_its_weight_and_of_no_other(self, slug, damage):
        tensors = [_scales(**damage), _weight(exact=0, changed=6, foreign=6), _weight("w", changed=1, foreign=1)]
        failures = [*_found(slug, *tensors), *_found("irreproducible-block", *tensors)]
        roots = [each for each in attribute(failures, Inventory(())) if each.caused_by is None]
        assert sorted(each.slug for each in roots) == sorted([slug, "irreproducible-block"])
        (blocks,) = [each for each in roots if each.slug == "irreproducible-block"]
        assert blocks.affected == ("w",)

    def test_scales_that_are_no_powers_of_two_do_not_explain_nan_codes(self):
        tensors = [_scales(), replace(_weight(), nan=1)]
        failures = [*_found("scale-not-power-of-two", *tensors, powers_of_two=True), *_found("nan-code", *tensors)]
        assert [each.caused_by for each in attribute(failures, Inventory(()))] == [None, None]


class TestRoundedScale:
    """Scales that have lost their last 16 bits."""

    def test_a_tensor_of_many_rounded_scales_is_found_by_itself(self):
        rounded = _scales("a", values=896, exponents={-13: 896}, bf16=896)
        sound = _scales("b", values=896, exponents={-13: 896}, bf16=120)
        assert "all 896 block scales" in _one("rounded-scale", rounded, sound).message

    def test_small_tensors_count_together(self):
        small = [_scales(_expert(number), bf16=6) for number in range(10)]
        assert len(_found("rounded-scale", *small)) == 10
        assert _found("rounded-scale", *small[:2]) == []

    def test_one_in_seven_of_a_bf16_source_is_sound(self):
        few = [_scales(_expert(number), bf16=6 if number == 0 else 1) for number in range(50)]
        assert _found("rounded-scale", *few) == []

    def test_powers_of_two_say_nothing(self):
        powers = _scales(values=896, exponents={-13: 896}, powers_of_two=896, bf16=896)
        assert _found("rounded-scale", powers) == []

    def test_scales_stored_as_bf16_are_another_rule_s_subject(self):
        stored = replace(_scales(values=896, exponents={-13: 896}, bf16=896), dtype="BF16")
        assert _found("rounded-scale", stored) == []


class TestZeroAndConstant:
    """Tensors that hold one value throughout."""

    @pytest.mark.parametrize("name", [WEIGHT, "model.norm.weight", "model.embed_tokens.weight"])
    def test_weights_norms_and_vocabulary_are_not_zero(self, name):
        zero = _tensor(name, zeros=256 * 384, constant=True)
        assert "all 98,304 values are 0" in _one("all-zero-tensor", zero).message
        assert _found("constant-tensor", zero) == []

    @pytest.mark.parametrize(
        "name", ["model.layers.3.mlp.gate.e_score_correction_bias", "model.layers.3.self_attn.o_proj.bias"]
    )
    def test_a_bias_may_be_zero(self, name):
        assert _found("all-zero-tensor", _tensor(name, (8,), zeros=8, constant=True)) == []
        assert _found("constant-tensor", _tensor(name, (8,), zeros=8, constant=True)) == []

    def test_a_sampled_tensor_is_zero_as_far_as_it_was_read(self):
        sampled = _tensor(WEIGHT, read=49_152, zeros=49_152, rows=((0, 128),))
        assert "all 49,152 values read of 98,304 are 0" in _one("all-zero-tensor", sampled, depth="sample").message

    def test_one_zero_strip_of_a_vocabulary_matrix_may_be_padding(self):
        strip = _tensor("lm_head.weight", read=49_152, zeros=49_152, rows=((128, 256),))
        assert _found("all-zero-tensor", strip, depth="sample") == []

    def test_a_norm_of_ones_is_constant(self):
        norm = _tensor("model.norm.weight", (8,), constant=True, minimum=1.0, maximum=1.0)
        assert _one("constant-tensor", norm).message == "all 8 values are the one value 1"

    def test_a_grid_of_equal_scales_and_a_single_value_are_sound(self):
        assert _found("constant-tensor", replace(_scales(), constant=True), _tensor("x", (1,), constant=True)) == []

    def test_a_tensor_of_nan_is_not_called_constant(self):
        assert _found("constant-tensor", _tensor("x", constant=True, nan=256 * 384, minimum=None)) == []


class TestZeroedExpert:
    """Experts that were pruned to zeros or added as zeros, and experts that were lost."""

    def _layer(self, zero: int, *, clamp: float = 1e-4 / 448, of: int = 8, matrices: int = 3) -> list[TensorValues]:
        tensors = []
        for number in range(of):
            for projection in ("gate", "up", "down")[: matrices if number < zero else 3]:
                scale = _expert(number, projection)
                weight = _weight(scale.removesuffix("_scale_inv"))
                at_clamp = {"median": clamp, "minimum": clamp, "maximum": clamp, "exponents": {-23: 6}}
                tensors.append(_scales(scale, **(at_clamp if number < zero else {})))
                lost = {"zeros": weight.read, "minimum": 0.0, "maximum": 0.0}
                tensors.append(replace(weight, **(lost if number < zero else {})))
        return tensors

    @pytest.mark.parametrize("clamp", [1e-4 / 448, 2.0**-22, 1e-4 / 240, 1e-12 / 448, 1.0])
    def test_zeros_with_the_scales_that_a_quantiser_gives_zeros_are_a_warning(self, clamp):
        tensors = self._layer(3, clamp=clamp)
        failures = _found("zeroed-expert", *tensors)
        assert len(failures) == 3
        assert (
            "expert 0 of layer 3 is 0 in all 3 matrices, with the scales of zeros; 3 experts are" in failures[0].message
        )
        assert failures[0].rule.severity == "warning"
        assert _found("all-zero-tensor", *tensors) == []
        assert _found("impossible-scale", *tensors) == _found("irreproducible-block", *tensors) == []

    @pytest.mark.parametrize("scale", [TYPICAL, 1e-5])
    def test_zeros_beside_scales_of_weights_are_lost_weights(self, scale):
        tensors = self._layer(1, clamp=scale)
        assert _found("zeroed-expert", *tensors) == []
        assert len(_found("all-zero-tensor", *tensors)) == 3

    def test_one_matrix_of_a_living_expert_is_lost(self):
        tensors = [replace(each, zeros=0) if "experts.0.down" in each.name else each for each in self._layer(1)]
        assert (_found("zeroed-expert", *tensors), len(_found("all-zero-tensor", *tensors))) == ([], 2)

    def test_half_a_layer_is_not_pruned(self):
        tensors = self._layer(4)
        assert (_found("zeroed-expert", *tensors), len(_found("all-zero-tensor", *tensors))) == ([], 12)

    def test_zeros_of_an_expert_in_bf16_say_nothing_of_where_they_are_from(self):
        tensors = [replace(each, blocks=None, dtype="BF16") for each in self._layer(1) if each.scales is None]
        assert (_found("zeroed-expert", *tensors), len(_found("all-zero-tensor", *tensors))) == ([], 3)


class TestUnscaledCodes:
    """Matrices that hold the codes of quantised ones as numbers."""

    CODES: ClassVar = {"e4m3": True, "minimum": -448.0, "maximum": 416.0}

    @pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
    def test_codes_stored_as_floats_are_an_error_that_says_what_they_are(self, dtype):
        failure = _one("unscaled-codes", _tensor(WEIGHT, dtype=dtype, **self.CODES))
        assert failure.message == (
            f"all 98,304 values are values of E4M3, up to 448: FP8 codes stored as {dtype}, their scales not applied"
        )
        assert failure.takes == (WEIGHT,)  # that its median is far from its kind is the same thing

    def test_a_sample_says_how_much_it_looked_at(self):
        strip = _tensor(WEIGHT, read=49_152, rows=((0, 128),), **self.CODES)
        assert "all 49,152 values read of 98,304 are" in _one("unscaled-codes", strip, depth="sample").message

    @pytest.mark.parametrize(
        "sound",
        [{"e4m3": False}, {"minimum": -1.0, "maximum": 1.0}, {"constant": True}],
    )
    def test_weights_are_not_codes(self, sound):
        assert _found("unscaled-codes", _tensor(WEIGHT, **(self.CODES | sound))) == []

    def test_a_bias_of_large_numbers_is_not_codes(self):
        assert _found("unscaled-codes", _tensor("model.x.bias", (8,), **self.CODES)) == []


class TestCorrectionBiases:
    """Biases that training would have moved."""

    def _biases(self, zero: int, of: int = 4) -> list[TensorValues]:
        names = [f"model.layers.{layer}.mlp.gate.e_score_correction_bias" for layer in range(of)]
        return [_tensor(name, (8,), "F32", zeros=8 if number < zero else 0) for number, name in enumerate(names)]

    @pytest.mark.parametrize(("zero", "words"), [(4, "all 4 correction biases"), (1, "1 of 4 correction biases")])
    def test_zero_biases_are_one_note(self, zero, words):
        note = _one("zero-correction-bias", *self._biases(zero))
        assert note.message == f"{words} read hold nothing but 0"
        assert (note.rule.severity, len(note.tensors)) == ("info", zero)

    def test_trained_biases_are_no_note(self):
        assert _found("zero-correction-bias", *self._biases(0)) == []


class TestUndeclaredPowersOfTwo:
    """Scales for kernels that the config does not ask for."""

    def _grids(self, powers: int, count: int = 5, **more: Any) -> list[TensorValues]:
        return [_scales(_expert(number), powers_of_two=powers, **more) for number in range(count)]

    def test_all_scales_powers_of_two_are_one_note_that_names_the_field(self):
        note = _one("undeclared-powers-of-two", *self._grids(6))
        assert note.message == (
            "all 30 block scales read are powers of two, and quantization_config has no scale_fmt ue8m0"
        )
        assert (note.field, note.rule.severity) == ("quantization_config.scale_fmt", "info")

    def test_a_few_or_some_or_those_of_1_are_no_note(self):
        assert _found("undeclared-powers-of-two", *self._grids(6, 2)) == []
        assert _found("undeclared-powers-of-two", *self._grids(6), _scales(powers_of_two=5)) == []
        assert _found("undeclared-powers-of-two", *self._grids(6, minimum=1.0, maximum=1.0)) == []

    def test_where_it_is_declared_there_is_nothing_to_note(self):
        assert isinstance(content_facts(_probes(*self._grids(6), powers_of_two=True))["free_probes"], Blocked)


class TestStoredTiedHead:
    """A head beside tie_word_embeddings."""

    @pytest.mark.parametrize(("digest", "words"), [("1", "holds the bytes of"), ("2", "holds other bytes than")])
    def test_whether_both_are_equal_is_told(self, digest, words):
        note = _one(
            "stored-tied-head",
            _tensor("model.embed_tokens.weight", xxh3="1"),
            _tensor("lm_head.weight", xxh3=digest),
        )
        assert note.message == f"lm_head.weight {words} model.embed_tokens.weight; tie_word_embeddings is true"
        assert (note.rule.severity, note.tensor) == ("info", "lm_head.weight")

    def test_a_sample_says_of_how_many_strips(self):
        strips = {"rows": ((0, 128), (256, 384)), "strips": ("a", "b"), "read": 98_304}
        note = _one(
            "stored-tied-head",
            _tensor("model.embed_tokens.weight", **strips),
            _tensor("lm_head.weight", **(strips | {"strips": ("a", "c")})),
            depth="sample",
        )
        assert "in 1 of 2 strips of rows read" in note.message

    def test_what_is_not_tied_or_cannot_be_compared_was_not_looked_at(self):
        digests = [_tensor(name, xxh3="1") for name in ("model.embed_tokens.weight", "lm_head.weight")]
        undigested = [_tensor(name) for name in ("model.embed_tokens.weight", "lm_head.weight")]
        counted = [
            count_value_subjects(_probes(*tensors), None, SimpleNamespace(tie_word_embeddings=tied))[
                "tied heads compared"
            ]
            for tensors, tied in ((digests, True), (digests, False), (undigested, True))
        ]
        assert counted == [1, 0, 0]

    def test_without_a_head_there_is_nothing_to_compare(self):
        assert _found("stored-tied-head", _tensor("model.embed_tokens.weight", xxh3="1")) == []


class TestZeroFilledTail:
    """A truncated and padded download, and what merely ends in zeros."""

    LIMIT = 64 << 10

    def _failures(self, tail: int, *tensors: tuple[str, int]) -> list[Failure]:
        """`tensors` are names with sizes in bytes, in storage order."""
        headers, values, position = {}, [], 0
        for name, size in tensors:
            headers[name] = TensorHeader("F8_E4M3", (1, size), (position, position + size))
            values.append(_tensor(name, (1, size), "F8_E4M3"))
            position += size
        shard = Shard("a.safetensors", 108 + position, "read", header_bytes=100, tensors=headers)
        read = ShardValues("a.safetensors", shard.size, tuple(values), position, zero_tail=tail)
        probes = Probes(depth="full", seed=0, device="cpu", shards=(read,))
        return list(CHECKS["zero-filled-tail"](whole_probes=probes, inventory=Inventory((shard,))))

    def test_it_names_every_tensor_it_reaches_over(self):
        (failure,) = self._failures(250_000, ("a", 100_000), ("b", 200_000), ("c", 100_000))
        assert failure.message == ("the last 250,000 of 400,108 bytes (244 KiB) are 0: 1 tensor wholly and 1 in part")
        assert (failure.begin, failure.end) == (150_108, 400_108)
        assert list(failure.tensors) == ["b", "c"]

    def test_it_explains_zero_tensors_and_scales_and_round_trips_inside(self):
        failures = self._failures(250_000, ("a", 100_000), (WEIGHT, 200_000), (SCALE, 100_000))
        zeros = _tensor(WEIGHT, zeros=98_304)
        failures += _found("all-zero-tensor", zeros) + _found("zero-scale", _scales(zero=6, median=0.0, maximum=0.0))
        failures += _found("irreproducible-block", _weight(changed=1, foreign=1))
        roots = [each.slug for each in attribute(failures, Inventory(())) if each.caused_by is None]
        assert roots == ["zero-filled-tail"]

    def test_a_shard_that_ends_in_zero_biases_is_sound(self):
        assert self._failures(self.LIMIT * 2, ("a", 100_000), ("x.bias", self.LIMIT * 2)) == []

    def test_zeros_before_a_zero_bias_are_found(self):
        assert self._failures(self.LIMIT * 2 + 50, ("a", 200_000), ("x.bias", 50)) != []

    def test_less_than_a_block_of_padding_is_sound(self):
        assert self._failures(self.LIMIT - 1, ("a", 100_000)) == []

    def test_unused_rows_of_a_vocabulary_are_sound_and_half_a_vocabulary_is_not(self):
        assert self._failures(100_000, ("lm_head.weight", 2_000_000)) == []
        assert self._failures(1_000_000, ("lm_head.weight", 2_000_000)) != []


class TestCopies:
    """MTP copies, experts and layers, by digests."""

    MAIN, COPY = "model.embed_tokens.weight", "model.layers.61.embed_tokens.weight"
    HEAD, HEAD_COPY = "lm_head.weight", "model.layers.61.shared_head.head.weight"

    def test_whole_copies_are_compared_by_digest(self):
        assert _found("differing-mtp-copy", _tensor(self.MAIN, xxh3="a"), _tensor(self.COPY, xxh3="a")) == []
        failure = _one("differing-mtp-copy", _tensor(self.MAIN, xxh3="a"), _tensor(self.COPY, xxh3="b"))
        assert (failure.tensor, failure.message) == (
            self.COPY,
            "copy of the embedding differs from the main model's in its bytes",
        )

    def test_at_sample_the_same_rows_are_compared(self):
        main = _tensor(self.HEAD, rows=((0, 128), (128, 256)), strips=("a", "b"))
        copy = _tensor(self.HEAD_COPY, rows=((128, 256), (256, 384)), strips=("x", "c"))
        failure = _one("differing-mtp-copy", main, copy, depth="sample")
        assert failure.message == "copy of the head differs from the main model's in 1 of 1 strips of rows read"

    def test_other_rows_are_not_compared_and_the_outcome_says_so(self):
        probes = _probes(
            _tensor(self.HEAD, rows=((0, 128),), strips=("a",)),
            _tensor(self.HEAD_COPY, rows=((128, 256),), strips=("b",)),
            depth="sample",
        )
        assert list(CHECKS["differing-mtp-copy"](probes)) == []
        assert count_value_subjects(probes)["MTP copies compared"] == 0

    def _experts(self, digest: dict[int, str]) -> list[TensorValues]:
        return [
            _tensor(_expert(number, each).removesuffix("_scale_inv"), xxh3=f"{each}{digest.get(number, number)}")
            for number in range(8)
            for each in ("gate", "up", "down")
        ]

    def test_experts_that_share_all_weights_are_copies(self):
        failure = _one("identical-experts", *self._experts({2: "x", 5: "x"}))
        assert failure.message == "expert 5 of layer 3 holds the same weights as expert 2 of layer 3"
        assert len(failure.tensors) == 6

    def test_experts_that_share_some_weights_are_not(self):
        experts = self._experts({2: "x", 5: "x"})
        assert _found("identical-experts", *(replace(e, xxh3="y") if "5.up" in e.name else e for e in experts)) == []

    def test_experts_that_were_not_digested_are_not_alike(self):
        assert _found("identical-experts", *(replace(each, xxh3=None) for each in self._experts({}))) == []

    def test_zero_experts_are_alike_because_they_are_zero(self):
        experts = [
            replace(each, zeros=each.read)
            for each in self._experts({2: "x", 5: "x"})
            if ".2." in each.name or ".5." in each.name
        ]
        failures = _found("identical-experts", *experts) + _found("all-zero-tensor", *experts)
        assert [each.slug for each in attribute(failures, Inventory(())) if each.caused_by is None] == [
            "all-zero-tensor"
        ]

    def test_layers_that_share_all_matrices_are_copies_whatever_their_norms(self):
        tensors = [
            _tensor(f"model.layers.{layer}.self_attn.{each}.weight", xxh3=f"{each}{min(layer, 4)}")
            for layer in range(7)
            for each in ("o_proj", "q_a_proj")
        ]
        norms = [_tensor(f"model.layers.{layer}.input_layernorm.weight", (8,), xxh3=f"n{layer}") for layer in range(7)]
        failure = _one("identical-layers", *tensors, *norms)
        assert failure.message == "layers 4, 5 and 6 hold the same weights in all 2 matrices"


class TestDeclaredDigests:
    """What a store declares of a shard is what was read of it."""

    A, B = "a" * 64, "b" * 64

    def _read(self, sha256: str | None, file: str = "a.safetensors") -> ShardValues:
        return ShardValues(file=file, size=1024, tensors=(_tensor("x", xxh3="1"),), bytes_read=8, sha256=sha256)

    def _compared(self, declared: dict[str, str], *shards: ShardValues) -> tuple[list[Failure], int]:
        probes = Probes(depth="full", seed=1, device="cpu", shards=shards)
        return list(CHECKS["differing-digest"](probes, declared)), count_value_subjects(probes, declared)[
            "digests compared"
        ]

    def test_another_digest_is_an_error_with_both_in_full(self):
        (failure,), compared = self._compared({"a.safetensors": self.A}, self._read(self.B))
        assert (failure.file, failure.expected, failure.actual) == (
            "a.safetensors",
            {"sha256": self.A},
            {"sha256": self.B},
        )
        assert (failure.rule.severity, compared) == ("error", 1)

    def test_the_declared_digest_passes(self):
        assert self._compared({"a.safetensors": self.A}, self._read(self.A)) == ([], 1)

    def test_shards_without_either_digest_are_not_counted_as_compared(self):
        shards = (self._read(self.A), self._read(self.B, "b.safetensors"), self._read(None, "c.safetensors"))
        assert self._compared({"a.safetensors": self.A, "c.safetensors": self.A}, *shards) == ([], 1)

    def test_where_nothing_is_declared_the_fact_is_blocked_with_the_reason(self):
        assert content_facts(_probes(_tensor("x")), {})["declared_digests"] == Blocked(
            "the source declares no SHA-256 of its shards"
        )


class TestFacts:
    """Which facts there are at which depth, and what was looked at."""

    def test_at_depth_headers_every_fact_is_blocked_with_the_reason(self):
        assert {fact.reason for fact in content_facts(NOT_READ).values()} == {
            "tensor data is not read at depth headers"
        }
        assert count_value_subjects(NOT_READ) == {}

    def test_at_sample_what_needs_every_byte_is_blocked(self):
        facts = content_facts(_probes(_tensor("x", rows=((0, 1),), strips=("a",)), depth="sample"))
        blocked = {name for name, fact in facts.items() if isinstance(fact, Blocked)}
        assert blocked == {"whole_probes", "whole_digests", "ue8m0_probes", "declared_digests"}

    def test_without_digests_what_compares_them_is_blocked(self):
        facts = content_facts(_probes(_tensor("x")))
        assert facts["digests"] == facts["whole_digests"] == Blocked("no digests were made")
        assert isinstance(facts["whole_probes"], Probes)

    def test_every_rule_asks_for_facts_that_there_are_and_counts_subjects_that_are_counted(self):
        facts, counted = content_facts(NOT_READ), count_value_subjects(_probes(_weight(), _scales()))
        for module in catalogue():
            if module.rule.id.startswith("VAL"):
                assert set(module.needs) <= {*facts, "inventory", "config", "policy"}
                assert module.rule.examines in counted
        assert (counted["weight blocks read"], counted["scales read"], counted["FP8 tensors read"]) == (6, 1, 1)

    def test_a_kind_folds_layers_and_experts(self):
        assert kind_of(SCALE) == "mlp.experts.{expert}.up_proj.weight_scale_inv"
        assert kind_of("model.layers.12.input_layernorm.weight") == "input_layernorm.weight"
        assert kind_of("lm_head.weight") == "lm_head.weight"
