"""What other tools write into config.json for a checkpoint that is sound: it stays sound, and what is wrong is one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditor import audit
from auditor.families import family_for
from auditor.forge import plan_of
from auditor.forge.convert import unquantise
from auditor.forge.plan import Plan, Shard, Tensor, number
from auditor.forge.write import write
from auditor.patterns import layer_of


def forged(folder: Path, *changes: Callable[[Plan], None]) -> Path:
    """A tiny checkpoint with changes to its plan, without content."""
    plan = plan_of("tiny")
    for change in changes:
        change(plan)
    folder.mkdir(exist_ok=True)
    write(plan, folder, strips=None)
    return folder


def fields(**new: Any) -> Callable[[Plan], None]:
    return lambda plan: plan.config.update(new)


def quantisation(**new: Any) -> Callable[[Plan], None]:
    return lambda plan: plan.config["quantization_config"].update(new)


def bf16_mtp(plan: Plan) -> None:
    unquantise(plan, lambda name: layer_of(name) in plan.mtp_layers)


def above_info(report) -> list[tuple[str, str]]:
    return [
        (each.rule, each.severity) for each in report.findings if each.caused_by is None and each.severity != "info"
    ]


def only(report):
    """The one finding above info."""
    roots = [each for each in report.findings if each.caused_by is None and each.severity != "info"]
    assert len(roots) == 1, [(each.rule, each.message) for each in roots]
    return roots[0]


# --- spellings


TRANSFORMERS_5 = {
    "quant_method": "fp8",
    "activation_scheme": "dynamic",
    "weight_block_size": [128, 128],
    "dequantize": False,
    "modules_to_not_convert": None,
    "modules_to_convert": None,
    "scale_fmt": "float",
}


@pytest.mark.parametrize(
    "change",
    [
        quantisation(scale_fmt="float"),
        quantisation(scale_fmt=None),
        quantisation(scale_fmt="float32"),
        quantisation(scale_fmt="fp32"),
        quantisation(fmt="F8_E4M3"),
        quantisation(fmt="fp8_e4m3"),
        quantisation(fmt="float8_e4m3fn"),
        quantisation(fmt="e4m3fn"),
        quantisation(fmt="E4M3"),
        quantisation(fmt="torch.float8_e4m3fn"),
        quantisation(fmt=None),
        quantisation(modules_to_not_convert=["lm_head"]),
        quantisation(ignored_layers=["lm_head", "model.embed_tokens"]),
        quantisation(modules_to_not_convert=None, ignored_layers=None),
        quantisation(ignored_layers=["a", "lm_head"], modules_to_not_convert=["lm_head", "a", "a"]),
        fields(quantization_config=TRANSFORMERS_5),
    ],
)
def test_the_published_format_in_another_spelling_is_the_same_format(change, tmp_path):
    report = audit(forged(tmp_path / "checkpoint", change))
    assert (report.verdict, above_info(report)) == ("passed", [])


def test_a_config_as_transformers_5_writes_it_is_sound(tmp_path):
    def rewrite(plan: Plan) -> None:
        plan.config["dtype"] = plan.config.pop("torch_dtype")
        plan.config["rope_parameters"] = {"rope_type": "yarn", "rope_theta": 10000, "factor": 40}
        for gone in ("rope_scaling", "rope_theta", "topk_method", "moe_layer_freq"):
            plan.config.pop(gone, None)
        plan.config |= {
            "transformers_version": "5.12.0", "head_dim": 32, "pad_token_id": None, "rope_interleave": True,
            "quantization_config": TRANSFORMERS_5,
        }  # fmt: skip

    report = audit(forged(tmp_path / "checkpoint", rewrite))
    assert (report.verdict, above_info(report)) == ("passed", [])


def test_more_experts_for_a_token_than_there_are_is_one_contradiction(tmp_path):
    found = only(audit(forged(tmp_path / "checkpoint", fields(num_experts_per_tok=16))))
    assert (found.rule, found.message) == ("CFG104", "is 16, must be at most n_routed_experts (8)")


@pytest.mark.parametrize("fmt", ["e5m2", "float8_e5m2", "e4m3fnuz", "float8_e4m3fnuz", "FP8_E5M2", "int8", ""])
def test_another_format_of_codes_is_no_spelling_of_this_one(fmt, tmp_path):
    found = only(audit(forged(tmp_path / "checkpoint", quantisation(fmt=fmt))))
    assert (found.rule, found.location.field) == ("CFG105", "quantization_config.fmt")
    assert f"is '{fmt}'" in found.message


# --- exemptions


@pytest.mark.parametrize("field", ["modules_to_not_convert", "ignored_layers"])
@pytest.mark.parametrize("entry", ["model.layers.4", "layers.4", "model.layers.4.mlp", "4"])
def test_modules_are_exempt_under_either_name(field, entry, tmp_path):
    def apart(plan: Plan) -> None:
        unquantise(plan, lambda name: layer_of(name) == 4 and ("mlp" not in entry or ".mlp." in name))

    report = audit(forged(tmp_path / "checkpoint", apart, quantisation(**{field: [entry]})))
    assert (report.verdict, above_info(report)) == ("passed", [])


@pytest.mark.parametrize("field", ["modules_to_not_convert", "ignored_layers"])
def test_exempt_experts_may_be_listed_one_by_one(field, tmp_path):
    def listed(plan: Plan) -> None:
        weights = [each.name for each in plan.tensors() if each.values == "codes" and layer_of(each.name) == 4]
        quantisation(**{field: [name.removesuffix(".weight") for name in weights]})(plan)
        bf16_mtp(plan)

    report = audit(forged(tmp_path / "checkpoint", listed))
    assert (report.verdict, above_info(report)) == ("passed", [])


LONG = "language_model.model.layers.4.mlp.shared_experts.gate_proj"


def test_long_names_of_modules_and_files_are_shown_whole(tmp_path):
    lists = quantisation(modules_to_not_convert=["lm_head"], ignored_layers=["lm_head", LONG])
    file = "model-00082-of-000163.safetensors"
    report = audit(forged(tmp_path / "checkpoint", lists, fields(transformers_weights=file)))
    told = {each.rule: each.message for each in report.findings}
    assert f"'{LONG}'" in told["CFG110"]
    assert f"'{file}'" in told["FIL102"]


def test_a_wrappers_long_name_of_an_exempt_module_is_shown_whole(tmp_path):
    def shared(plan: Plan) -> None:
        unquantise(plan, lambda name: "layers.4.mlp.shared_experts.gate_proj" in name)

    found = only(audit(forged(tmp_path / "checkpoint", shared, quantisation(modules_to_not_convert=[LONG]))))
    assert found.rule == "QNT114"
    assert f"'{LONG}' matches no module" in found.message


@pytest.mark.parametrize("right", ["modules_to_not_convert", "ignored_layers"])
def test_two_lists_of_exempt_modules_that_differ_are_one_warning(right, tmp_path):
    wrong = {"modules_to_not_convert": "ignored_layers", "ignored_layers": "modules_to_not_convert"}[right]
    lists = quantisation(**{right: ["lm_head", "model.layers.4"], wrong: ["lm_head", "model.layers.2"]})
    found = only(audit(forged(tmp_path / "checkpoint", bf16_mtp, lists)))
    assert (found.rule, found.severity, found.location.field) == (
        "CFG110", "warning", "quantization_config.ignored_layers",
    )  # fmt: skip
    assert "model.layers.4" in found.message
    assert "model.layers.2" in found.message


def test_two_lists_of_which_neither_describes_the_tensors_are_no_excuse(tmp_path):
    lists = quantisation(modules_to_not_convert=["model.layers.2"], ignored_layers=["model.layers.1"])
    report = audit(forged(tmp_path / "checkpoint", bf16_mtp, lists))
    assert report.verdict == "failed"
    assert ("CFG110", "warning") in above_info(report)
    assert any(severity == "error" for _, severity in above_info(report))


# --- contradictions that leave the layout derivable


def one_layer(plan: Plan) -> None:
    """As test models are cut: one dense layer, the other fields left as they were."""
    plan.config |= {"num_hidden_layers": 1, "num_nextn_predict_layers": 0, "first_k_dense_replace": 3}
    plan.drop(lambda name: layer_of(name) not in (0, None))


def test_a_one_layer_model_whose_layers_are_all_dense_is_sound(tmp_path):
    report = audit(forged(tmp_path / "checkpoint", one_layer))
    assert (report.verdict, above_info(report)) == ("passed", [])


def test_what_is_wrong_with_a_one_layer_model_is_found(tmp_path):
    def damaged(plan: Plan) -> None:
        plan.drop("model.layers.0.self_attn.o_proj.weight_scale_inv".__eq__)

    assert only(audit(forged(tmp_path / "checkpoint", one_layer, damaged))).rule == "QNT101"


@pytest.mark.parametrize(
    "change", [{"n_group": 3}, {"topk_group": 9}, {"num_experts_per_tok": None}, {"dtype": "float16"}], ids=str
)
def test_a_contradiction_hides_nothing_that_is_wrong_with_the_tensors(change, tmp_path):
    def damaged(plan: Plan) -> None:
        plan.drop("model.layers.2.self_attn.o_proj.weight_scale_inv".__eq__)

    report = audit(forged(tmp_path / "checkpoint", fields(**change), damaged))
    assert above_info(report) == [("CFG104", "error"), ("QNT101", "error")]


def test_of_two_dtypes_the_one_that_the_tensors_have_is_expected_of_them(tmp_path):
    for pair in ({"torch_dtype": "bfloat16", "dtype": "float32"}, {"torch_dtype": "float32", "dtype": "bfloat16"}):
        report = audit(forged(tmp_path / pair["dtype"], fields(**pair)))
        assert above_info(report) == [("CFG104", "error")]


def test_without_a_dtype_the_tensors_may_have_any_one(tmp_path):
    def f32(plan: Plan) -> None:
        del plan.config["torch_dtype"]
        plan.alter(lambda _: True, dtype="F32")
        del plan.config["quantization_config"]
        plan.drop(lambda name: name.endswith("_scale_inv"))

    report = audit(forged(tmp_path / "checkpoint", f32))
    assert (report.verdict, above_info(report)) == ("passed", [])


def test_a_field_that_the_tensors_contradict_explains_what_it_contradicts(tmp_path):
    """9 experts are no multiple of 4 groups, and not what the tensors show: the tensors show 8."""
    found = only(audit(forged(tmp_path / "checkpoint", fields(n_routed_experts=9))))
    assert (found.rule, found.location.field, found.expected) == ("CFG107", "n_routed_experts", 8)


def relaid(plan: Plan) -> None:
    """Tensors anew, exactly those that the plan's config implies by now."""
    family = family_for(plan.config["model_type"])
    assert family is not None
    names = family.expectations(family.config.model_validate(plan.config)).names
    tensors = [Tensor(name, row.dtype, row.shape, "weights", name, row.shape) for name, row in names.items()]
    plan.shards = [Shard("", tensors)]
    number(plan.shards)


def test_moonlight_has_no_query_rank_one_group_and_no_mtp_module(tmp_path):
    def moonlight(plan: Plan) -> None:
        plan.config |= {"q_lora_rank": None, "n_group": 1, "topk_group": 1}
        del plan.config["num_nextn_predict_layers"], plan.config["quantization_config"]

    folder = forged(tmp_path / "checkpoint", moonlight, relaid)
    assert "layers.0.self_attn.q_proj.weight" in (folder / "model.safetensors.index.json").read_text()
    report = audit(folder)
    assert (report.verdict, above_info(report)) == ("passed", [])


def test_an_mtp_module_exempt_in_bf16_is_sound(tmp_path):
    report = audit(forged(tmp_path / "checkpoint", bf16_mtp, quantisation(modules_to_not_convert=["model.layers.4"])))
    assert (report.verdict, above_info(report)) == ("passed", [])
