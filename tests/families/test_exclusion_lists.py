"""Lists of unquantised modules are held against the tensors: one that is wrong is one finding about the list."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from auditor import audit
from auditor.forge.convert import nvfp4_export
from auditor.forge.plan import Plan
from auditor.questions.lint import lint
from tests.families.test_config_variants import above_info, fields, forged, only, quantisation
from tests.families.test_foreign_formats import packed, stored_as

MTP = "model.layers.4"  # of the tiny layout: layers 0 to 3, and one MTP module
LIST = ["lm_head", "*.self_attn*", f"{MTP}*"]


def plain(name: str) -> bool:
    return ".self_attn." in name or name.startswith(f"{MTP}.")


def exported(exclude: list[str], left_out: Callable[[str], bool] = plain) -> Callable[[Plan], None]:
    return lambda plan: nvfp4_export(plan, left_out, exclude)


def infos(report) -> list[Any]:
    return [each for each in report.findings if each.rule == "QNT121"]


@pytest.mark.parametrize(
    "exclude",
    [
        LIST,
        ["lm_head", "self_attn", MTP],
        ["re:.*self_attn", r"re:model\.layers\.4\.", "lm_head"],
        ["*.kv_?_proj*", "q_a_proj", "*q_b_proj", "*.o_proj", f"{MTP}.*", "lm_head*"],
        ["lm_head", "*.self_attn.*", *(f"{MTP}.mlp.experts.{n}" for n in range(8)), f"{MTP}.mlp.shared_experts"],
    ],
)
def test_an_export_whose_list_is_right_is_sound(exclude, tmp_path):
    report = audit(forged(tmp_path / "checkpoint", exported(exclude)))
    assert (report.verdict, above_info(report), infos(report)) == ("passed", [], [])


def test_exemptions_from_fp8_blocks_are_no_matter_of_an_export(tmp_path):
    report = audit(forged(tmp_path / "checkpoint", exported(LIST)))
    [outcome] = [each for each in report.outcomes if each.slug == "unmatched-exemption"]
    assert (outcome.outcome, outcome.reason) == ("not_applicable", "config.json declares no FP8 blocks")


@pytest.mark.parametrize("beside", [True, False])
def test_a_forgotten_layer_is_one_finding_about_the_list(beside, tmp_path):
    folder = forged(tmp_path / "checkpoint", exported(LIST[:2]))
    place = "quantization.exclude_modules"
    if not beside:  # as newer writers have it, in config.json
        sidecar = json.loads((folder / "hf_quant_config.json").read_text())["quantization"]
        config = json.loads((folder / "config.json").read_text())
        sidecar["ignore"] = sidecar.pop("exclude_modules")
        config["quantization_config"] = {**sidecar, "quant_method": "modelopt"}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "hf_quant_config.json").unlink()
        place = "quantization_config.ignore"
    found = only(audit(folder))
    assert (found.rule, found.severity, found.count) == ("QNT120", "error", 27)
    assert (found.expected, found.actual) == ("NVFP4", "BF16")
    assert found.location.field == place
    assert found.location.file == ("hf_quant_config.json" if beside else "config.json")
    assert found.message.startswith(f"{place} leaves 27 weights of layer 4 to be NVFP4, they are stored as BF16")
    assert {*found.affected} == {
        f"{MTP}.mlp.experts.{{0-7}}.down_proj.weight", f"{MTP}.mlp.experts.{{0-7}}.gate_proj.weight",
        f"{MTP}.mlp.experts.{{0-7}}.up_proj.weight", f"{MTP}.mlp.shared_experts.down_proj.weight",
        f"{MTP}.mlp.shared_experts.gate_proj.weight", f"{MTP}.mlp.shared_experts.up_proj.weight",
    }  # fmt: skip


def test_entries_that_take_too_much_are_named(tmp_path):
    found = only(audit(forged(tmp_path / "checkpoint", exported([*LIST, "model.layers.1*", "*.2.mlp.experts"]))))
    assert (found.rule, found.expected, found.actual, found.count) == ("QNT120", "BF16", "NVFP4", 27 + 24)
    assert "'model.layers.1*' and 1 more in quantization.exclude_modules leaves out 51 weights" in found.message


def test_modules_in_another_format_than_the_declared_are_one_finding(tmp_path):
    def change(plan: Plan) -> None:
        declared = {"quant_algo": "NVFP4", "group_size": 16, "ignore": LIST}
        stored_as(plan, packed, "model.layers.3.mlp.experts.")
        nvfp4_export(plan, plain, LIST)
        plan.sidecar = {"quantization": declared}

    found = only(audit(forged(tmp_path / "checkpoint", change)))
    assert (found.rule, found.expected) == ("QNT120", "NVFP4")
    assert found.actual == "compressed-tensors, packed integers"


def test_a_module_or_two_are_damage_and_no_fault_of_the_list(tmp_path):
    hurt = "model.layers.2.mlp.experts.1.up_proj.weight"
    report = audit(forged(tmp_path / "checkpoint", exported(LIST, lambda name: plain(name) or name == hurt)))
    assert "QNT120" not in {each.rule for each in report.findings}
    assert report.verdict == "failed"
    assert any(hurt in str(each.location.tensor) for each in report.findings)


def test_entries_that_name_nothing_are_a_note(tmp_path):
    entries = ["model.layers.0.self_attn.indexers_proj", "model.layers.9*", "re:.*visual", "model.layers.2.mlp.gatee"]
    report = audit(forged(tmp_path / "checkpoint", exported([*LIST, *entries])))
    (found,) = infos(report)
    assert (report.verdict, above_info(report), found.severity) == ("passed", [], "info")
    assert found.actual == entries
    assert found.message.startswith("4 of 7 entries name no module and no tensor: 'model.layers.0.self_attn.indexers")


def test_entries_may_name_tensors_and_what_is_never_quantised(tmp_path):
    entries = ["e_score_correction_bias", "model.layers.2.mlp.gate.weight", "input_layernorm", "model.norm", "*.hnorm"]
    report = audit(forged(tmp_path / "checkpoint", exported([*LIST, *entries])))
    assert (report.verdict, infos(report)) == ("passed", [])


def test_the_list_of_fp8_blocks_is_held_against_the_names_as_well(tmp_path):
    folder = forged(tmp_path / "checkpoint", quantisation(modules_to_not_convert=["lm_head", "indexers_proj"]))
    (found,) = infos(audit(folder))
    assert (found.location.field, found.actual) == ("quantization_config.modules_to_not_convert", ["indexers_proj"])
    assert [each.message for each in lint(str(folder)).findings if each.rule == "QNT121"] == [found.message]


def test_a_declaration_that_lies_outside_the_checkpoint_is_not_quoted(tmp_path):
    folder = forged(tmp_path / "checkpoint", exported([*LIST, "model.layers.1*", "secret-name"]))
    outside = tmp_path / "elsewhere.json"
    (folder / "hf_quant_config.json").rename(outside)
    (folder / "hf_quant_config.json").symlink_to(outside)
    report = audit(folder)
    assert {"QNT120", "QNT121"} <= {each.rule for each in report.findings}
    assert "secret-name" not in report.model_dump_json()
    assert "model.layers.1*" not in report.model_dump_json()


def test_a_config_without_a_declaration_has_no_list(tmp_path):
    report = audit(forged(tmp_path / "checkpoint", fields(model_type="deepseek_v3")))
    assert infos(report) == []
