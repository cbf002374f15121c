"""Damage that no format forbids, by the smallest facts: what is found, and what sound models may have."""

from typing import Any

import pytest
from msgspec.structs import replace

from auditor.comparison.equal_bytes import equal_bytes
from auditor.comparison.magnitudes import odd_magnitudes
from auditor.comparison.outliers import outliers
from auditor.content.probes import Probes
from auditor.content.values import RowValues, ScaleValues, ShardValues, TensorValues, Texture
from auditor.format.entries import elements
from auditor.rules import catalogue
from auditor_schemas.policy import DEFAULT_POLICY, DEFAULT_THRESHOLDS, Policy, Thresholds

CHECKS = {module.rule.slug: module for module in catalogue()}


def _tensor(name: str, shape: tuple[int, ...] = (256, 384), dtype: str = "BF16", **more: Any) -> TensorValues:
    values = {"read": elements(shape), "minimum": -1.0, "maximum": 1.0, "role": "weight"} | more
    return TensorValues(name=name, file="a.safetensors", dtype=dtype, shape=shape, elements=elements(shape), **values)


def _probes(*tensors: TensorValues, depth: Any = "full") -> Probes:
    shard = ShardValues(file="a.safetensors", size=1 << 30, tensors=tensors, bytes_read=0)
    return Probes(depth=depth, seed=1, device="cpu", shards=(shard,))


def _messages(slug: str, *tensors: TensorValues, thresholds: Thresholds = DEFAULT_THRESHOLDS, tied: bool = False):
    probes = _probes(*tensors)
    facts = {
        "probes": probes,
        "policy": DEFAULT_POLICY.model_copy(update={"thresholds": thresholds}),
        "equal_bytes": equal_bytes(probes, thresholds, tied=tied),
        "odd_magnitudes": odd_magnitudes(probes, thresholds),
        "outliers": outliers(probes, thresholds),
    }
    module = CHECKS[slug]
    return [failure.message for failure in module.check(**{name: facts[name] for name in module.needs})]


def _bands(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


class TestEqualBytes:
    """Tensors and strips that hold each other's bytes."""

    def test_two_tensors_of_one_digest_are_found_once(self):
        pair = [_tensor("model.layers.3.self_attn.o_proj.weight", xxh3="1"), _tensor("model.norm.weight", xxh3="1")]
        (message,) = _messages("equal-tensors", *pair, _tensor("lm_head.weight", xxh3="2"))
        assert message == "holds the 98,304 values of model.layers.3.self_attn.o_proj.weight, byte for byte"

    @pytest.mark.parametrize(
        "copy",
        [
            _tensor("model.layers.61.embed_tokens.weight", xxh3="1"),
            _tensor("model.layers.4.mlp.gate.weight", xxh3="1", constant=True),
            _tensor("model.layers.4.mlp.gate.weight", (7,), xxh3="1"),
            _tensor("model.layers.4.extra", xxh3="1", role=None),
            _tensor("model.layers.4.table", xxh3="1", role="table"),
            _tensor("model.layers.4.mlp.gate.e_score_correction_bias", xxh3="1", zeros=98_304, role="router_bias"),
        ],
        ids=["MTP copy", "constant", "few values", "unexpected", "table", "zeros"],
    )
    def test_declared_copies_and_what_holds_nothing_may_be_alike(self, copy):
        assert _messages("equal-tensors", _tensor("model.embed_tokens.weight", xxh3="1"), copy) == []

    def test_a_tied_head_may_be_the_embedding_and_no_other(self):
        pair = [_tensor("model.embed_tokens.weight", xxh3="1"), _tensor("lm_head.weight", xxh3="1")]
        assert _messages("equal-tensors", *pair, tied=True) == []
        assert len(_messages("equal-tensors", *pair)) == 1

    def test_an_expert_that_is_a_copy_as_a_whole_is_another_rule_s(self):
        names = [
            f"model.layers.3.mlp.experts.{number}.{part}_proj.weight" for number in (0, 1) for part in ("up", "down")
        ]
        whole = [_tensor(name, xxh3=name[-14]) for name in names]
        assert _messages("equal-tensors", *whole) == []
        assert len(_messages("equal-tensors", *whole[:3], replace(whole[3], xxh3="x"))) == 1

    def test_without_digests_strips_tell_whole_tensors(self):
        pair = [_tensor("model.layers.3.mlp.gate.weight"), _tensor("model.layers.4.mlp.gate.weight")]
        assert len(_messages("equal-tensors", *(replace(each, bands=_bands(5, 6)) for each in pair))) == 1
        assert _messages("equal-tensors", *(replace(each, bands=_bands(5, 0)) for each in pair)) == []

    def test_a_strip_in_two_tensors_or_twice_in_one_is_found(self):
        first = _tensor("model.layers.3.mlp.gate.weight", xxh3="1", bands=_bands(5, 6))
        second = _tensor("model.layers.4.mlp.gate.weight", xxh3="2", bands=_bands(7, 5))
        (message,) = _messages("equal-strips", first, second)
        assert message == f"strip 2 of 2 of {second.name} holds the bytes of strip 1 of 2 of {first.name}"
        assert len(_messages("equal-strips", replace(first, bands=_bands(5, 5)))) == 1
        assert _messages("equal-strips", replace(first, bands=_bands(0, 0))) == []

    def test_unused_tokens_of_one_vocabulary_may_be_alike(self):
        assert _messages("equal-strips", _tensor("lm_head.weight", bands=_bands(5, 5))) == []

    def test_tensors_that_are_equal_as_a_whole_say_nothing_of_their_strips(self):
        pair = [_tensor(f"model.layers.{layer}.mlp.gate.weight", xxh3="1", bands=_bands(5, 6)) for layer in (3, 4)]
        assert _messages("equal-strips", *pair) == []

    def test_a_page_that_is_there_twice_is_found(self):
        (message,) = _messages("equal-strips", _tensor("model.layers.3.mlp.gate.weight", doubled_pages=1))
        assert message == "1 page of 4 KiB holds what the page before holds"


class TestMagnitudes:
    """Values, medians and scales that are far off."""

    def test_a_value_of_a_flipped_exponent_bit_is_found(self):
        usual = {-7: 50, -6: 50}
        (message,) = _messages("heavy-value", _tensor("w", maximum=5e36, exponents=usual))
        assert message == "holds 5e+36, and half of its values are below 0.0312"
        assert _messages("heavy-value", _tensor("w", minimum=-65_536.0, exponents=usual)) == []

    def test_f16_bits_and_values_in_another_order_are_found(self):
        assert len(_messages("foreign-bits", _tensor("w", exponents={-53: 90, -60: 10}))) == 1
        assert len(_messages("foreign-bits", _tensor("w", exponents=dict.fromkeys(range(-126, 127), 1)))) == 1
        assert _messages("foreign-bits", _tensor("w", exponents={-6: 60, -40: 40})) == []

    def test_a_bias_of_eight_values_in_another_order_is_found_where_one_of_them_looks_like_zero(self):
        bias = _tensor("b", (8,), dtype="F32", role="router_bias", exponents=dict.fromkeys(range(-90, 91, 30), 1))
        assert len(_messages("foreign-bits", bias)) == 1
        assert _messages("foreign-bits", _tensor("b", (7,), dtype="F32", exponents=bias.exponents)) == []

    def test_values_of_which_half_are_heavy_are_other_bits_and_not_one_heavy_value(self):
        norm = _tensor("w", maximum=2.5e38, exponents={108: 60, 92: 40})
        assert _messages("foreign-bits", norm) == ["half of the BF16 values read are 3.25e+32 and more"]
        assert _messages("heavy-value", norm) == []

    def test_biases_may_be_small_and_few_values_say_nothing(self):
        assert _messages("foreign-bits", _tensor("w", exponents={-40: 90}, role="bias")) == []
        assert _messages("foreign-bits", _tensor("w", exponents={-53: 7})) == []

    def test_a_norm_far_from_its_kind_is_a_warning_and_one_of_a_spread_kind_is_not(self):
        def norms(*medians: int) -> list[TensorValues]:
            return [
                _tensor(f"model.layers.{layer}.input_layernorm.weight", (320,), exponents={each: 320}, role="norm")
                for layer, each in enumerate(medians)
            ]

        assert len(_messages("outlying-tensor", *norms(0, 0, -7, 0, -1))) == 1
        assert _messages("outlying-tensor", *norms(0, 0, -5, 0, -1)) == []
        assert _messages("outlying-tensor", *norms(0, -7)) == []
        assert _messages("outlying-tensor", *norms(0, -3, 2, 5, -7)) == []

    def test_a_scale_far_from_its_tensor_is_found_either_way_but_not_where_its_kind_has_such(self):
        def scales(number: int, **more: Any) -> TensorValues:
            name = f"model.layers.3.mlp.experts.{number}.up_proj.weight_scale_inv"
            values = {"values": 6, "columns": 3, "minimum": 1e-4, "median": 2e-4, "maximum": 4e-4} | more
            return _tensor(name, (2, 3), "F32", scales=ScaleValues(**values), role="scale")

        usual = [scales(number) for number in range(5)]
        assert len(_messages("outlying-scale", *usual, scales(9, maximum=2e-4 * 128))) == 1
        assert len(_messages("outlying-scale", *usual, scales(9, minimum=2e-4 / 65))) == 1
        assert _messages("outlying-scale", *usual, scales(9, maximum=2e-4 * 100, minimum=2e-4 / 60)) == []
        assert _messages("outlying-scale", *usual, scales(9, minimum=1e-4 / 448)) == []  # an empty block
        outliers_of_a_kind = [scales(number, maximum=2e-4 * 100) for number in range(5)]
        assert _messages("outlying-scale", *outliers_of_a_kind, scales(9, maximum=2e-4 * 256)) == []

    def test_scales_far_below_a_kind_that_agrees_are_an_error(self):
        def scales(number: int, median: float) -> TensorValues:
            name = f"model.layers.{number}.self_attn.o_proj.weight_scale_inv"
            values = ScaleValues(values=6, columns=3, minimum=median, median=median, maximum=median)
            return _tensor(name, (2, 3), "F32", scales=values, role="scale")

        usual = [scales(number, 2e-4) for number in range(5)]
        assert len(_messages("impossible-scale", *usual, scales(9, 2e-4 / 2**21))) == 1
        assert _messages("impossible-scale", *usual, scales(9, 2e-4 / 2**19)) == []
        lenient = Thresholds(impossible_scale=2.0**22)
        assert _messages("impossible-scale", *usual, scales(9, 2e-4 / 2**21), thresholds=lenient) == []
        assert _messages("impossible-scale", *usual, scales(9, 2e-4 * 2**19)) == []
        strict = Thresholds(heavy_value=1_000.0)
        assert len(_messages("impossible-scale", *usual, scales(9, 2e-4 * 2**19), thresholds=strict)) == 1

    def test_scales_that_are_other_bytes_are_told_once_whatever_their_signs(self):
        """As in the other byte order: of any size and sign. A single negative scale keeps its own rule."""

        def scales(number: int, **more: Any) -> TensorValues:
            name = f"model.layers.{number}.self_attn.o_proj.weight_scale_inv"
            values = {"values": 6, "columns": 3, "minimum": 1e-4, "median": 2e-4, "maximum": 4e-4} | more
            return _tensor(name, (2, 3), "F32", scales=ScaleValues(**values), role="scale")

        swapped = scales(9, negative=3, median=3e18, maximum=9e28)
        probes = _probes(*(scales(number) for number in range(5)), swapped)
        (failure,) = CHECKS["impossible-scale"].check(outliers=outliers(probes, DEFAULT_THRESHOLDS))
        assert swapped.name in failure.takes


class TestTexture:
    """What codes and rows look like."""

    @pytest.mark.parametrize(
        ("slug", "texture"),
        [
            ("one-sign-codes", Texture(pages=9, sign_run=1024)),
            ("zero-codes", Texture(pages=9, zero_run=1024)),
            ("foreign-codes", Texture(pages=9, small=0.11, small_pages=1)),
        ],
    )
    def test_odd_codes_are_one_rule_s_alone_and_a_threshold_lets_them_pass(self, slug, texture):
        from auditor.content.values import BlockValues

        weight = _tensor("w", dtype="F8_E4M3", texture=texture, blocks=BlockValues(blocks=6, exact=6))
        slugs = ("one-sign-codes", "zero-codes", "foreign-codes")
        assert [each for each in slugs if _messages(each, weight)] == [slug]
        lenient = Thresholds(code_runs=4096, small_codes=0.2)
        assert _messages(slug, weight, thresholds=lenient) == []

    def test_a_weight_of_one_code_throughout_is_told_once(self):
        from auditor.content.values import BlockValues

        texture = Texture(pages=24, sign_run=98_304)
        weight = _tensor("w", dtype="F8_E4M3", constant=True, texture=texture, blocks=BlockValues(blocks=6))
        assert _messages("one-sign-codes", weight) == []
        assert len(_messages("constant-tensor", weight)) == 1

    def test_random_bytes_across_two_pages_are_one_page_at_least(self):
        from auditor.content.values import BlockValues

        weight = _tensor(
            "w", dtype="F8_E4M3", texture=Texture(pages=9, small=0.12, small_pages=0), blocks=BlockValues(blocks=6)
        )
        assert _messages("foreign-codes", weight)[0].startswith(
            "1 page of 4 KiB, of 9 read, is like random bytes: 12 %"
        )

    def test_rows_of_zeros_above_a_sixteenth_of_a_whole_matrix_are_found(self):
        padded = _tensor("lm_head.weight", matrix=RowValues(256, zeros=17))
        assert _messages("zero-rows", padded) == ["17 of 256 rows are 0"]
        assert _messages("zero-rows", replace(padded, matrix=RowValues(256, zeros=16))) == []
        assert _messages("zero-rows", replace(padded, read=100)) == []

    def test_rows_that_are_there_twice_are_found_above_a_twentieth(self):
        assert len(_messages("doubled-rows", _tensor("lm_head.weight", matrix=RowValues(100, doubled=6)))) == 1
        assert _messages("doubled-rows", _tensor("lm_head.weight", matrix=RowValues(100, doubled=5))) == []


def test_a_policy_has_thresholds_and_refuses_what_they_cannot_be():
    assert Policy.model_validate({"thresholds": {"scale_above": 300}}).thresholds.scale_above == 300
    for wrong in ({"scale_above": 1}, {"zero_rows": 2}, {"heavy": 1}):
        with pytest.raises(ValueError, match="thresholds"):
            Policy.model_validate({"thresholds": wrong})
