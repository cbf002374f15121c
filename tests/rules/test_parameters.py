"""Parameters of config.json that no shape shows, against releases of the same sizes and against each other."""

import json
from pathlib import Path
from typing import Any

import pytest

from auditor.families.releases import SIZES, layout_of, parameters, releases, releases_like
from auditor.rules.config import foreign_parameter, unlikely_config

DATA = Path(__file__).resolve().parent.parent / "data"
CONFIGS = sorted(path.name for path in DATA.glob("config.*.json"))


def _config(name: str = "config.deepseek-v3.json", **changes: Any) -> dict[str, Any]:
    return {**json.loads((DATA / name).read_text()), **changes}


def _told(config: dict[str, Any]) -> list[str]:
    return [each.message for check in (foreign_parameter.check, unlikely_config.check) for each in check(config)]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_release_says_nothing_and_is_known_as_it_is(name):
    config = _config(name)
    assert _told(config) == []
    if "qwen3.5" not in name:  # no family reads it
        assert parameters(config) in [each.parameters for each in releases_like(config)]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("rope_theta", 1000, "rope_theta is 1,000, DeepSeek-V3 and DeepSeek-V3.1 have 10,000"),
        ("rms_norm_eps", 1e-5, "rms_norm_eps is 1e-05"),
        ("scoring_func", "relu", "scoring_func is 'relu'"),
        ("routed_scaling_factor", 1.0, "routed_scaling_factor is 1.0"),
        ("norm_topk_prob", False, "norm_topk_prob is false"),
        ("num_experts_per_tok", 6, "num_experts_per_tok is 6"),
        ("n_group", 4, "n_group is 4"),
        ("topk_group", 2, "topk_group is 2"),
        ("hidden_act", "gelu", "hidden_act is 'gelu'"),
        ("rope_scaling", None, "rope_scaling is null"),
    ],
)
def test_a_parameter_that_no_release_of_these_sizes_has_is_one_warning_with_both_values(field, value, said):
    (message,) = _told(_config(**{field: value}))
    assert message.startswith(said)
    assert "DeepSeek-V3 and DeepSeek-V3.1 have" in message


def test_of_rope_scaling_only_what_differs_is_told():
    scaling = {**_config()["rope_scaling"], "factor": 4}
    del scaling["mscale"]
    assert _told(_config(rope_scaling=scaling)) == [
        "rope_scaling.factor is 4, DeepSeek-V3 and DeepSeek-V3.1 have 40; "
        "rope_scaling.mscale is null, DeepSeek-V3 and DeepSeek-V3.1 have 1.0"
    ]


def test_several_parameters_are_one_warning():
    (message,) = _told(_config(rope_theta=1, n_group=1))
    assert message.count("have") == 2


def test_releases_of_the_same_sizes_may_differ_in_what_they_say():
    assert _told(_config("config.kimi-k2-instruct.json", rms_norm_eps=1e-5)) == []
    (message,) = _told(_config("config.kimi-k2-instruct.json", rms_norm_eps=1e-4))
    assert "have 1e-06" in message
    assert "have 1e-05" in message


@pytest.mark.parametrize("size", ["hidden_size", "num_hidden_layers", "n_routed_experts", "vocab_size"])
def test_other_sizes_are_no_release_s(size):
    assert _told(_config(rope_theta=1, **{size: 64})) == _told(_config(**{size: 64}))


def test_what_a_config_leaves_out_is_not_held_against_it():
    config = _config()
    del config["routed_scaling_factor"], config["rope_theta"]
    assert _told(config) == []


def test_rope_may_be_written_in_either_way():
    config = _config()
    scaling = {name: value for name, value in config.pop("rope_scaling").items() if name != "type"}
    config["rope_parameters"] = {**scaling, "rope_type": "yarn", "rope_theta": config.pop("rope_theta")}
    assert _told(config) == []
    config["rope_parameters"]["factor"] = 41
    assert _told(config) == ["rope_scaling.factor is 41, DeepSeek-V3 and DeepSeek-V3.1 have 40"]


def test_softmax_does_not_go_with_a_correction_bias_whatever_the_sizes():
    for hidden_size in (64, 7168):
        (message,) = _told(_config(scoring_func="softmax", hidden_size=hidden_size))
        assert message == (
            "scoring_func is softmax, topk_method is noaux_tc, whose correction bias goes with sigmoid or sqrtsoftplus"
        )


def test_token_ids_are_below_the_size_of_the_vocabulary():
    assert _told(_config(eos_token_id=129_280)) == [
        "eos_token_id is 129,280, vocab_size is 129,280: tokens are 0 to 129,279"
    ]
    assert len(_told(_config(eos_token_id=[1, 200_000], pad_token_id=-1, bos_token_id=None))) == 1


def test_several_token_ids_beyond_the_vocabulary_are_one_warning():
    """As of a config.json whose vocab_size is another model's."""
    assert _told(_config(eos_token_id=[1, 200_000], bos_token_id=129_280)) == [
        "bos_token_id is 129,280, eos_token_id is 200,000, vocab_size is 129,280: tokens are 0 to 129,279"
    ]


@pytest.mark.parametrize("odd", [[], {}, "x", True, 1e400, [[1]], {"factor": []}])
def test_values_of_any_kind_are_told_or_not_and_crash_nothing(odd):
    for field in (
        "rope_scaling",
        "rope_parameters",
        "rope_theta",
        "vocab_size",
        "eos_token_id",
        "text_config",
        "n_group",
    ):
        _told(_config(**{field: odd}))


def test_every_release_has_sizes_and_parameters():
    for release in releases():
        assert set(release.sizes) <= set(SIZES)
        assert {"hidden_size", "vocab_size", "num_hidden_layers"} <= set(release.sizes)
        assert len(release.parameters) > 3
        assert layout_of({"text_config": {"hidden_size": 1}}) == {"hidden_size": 1}
