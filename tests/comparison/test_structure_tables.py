"""Releases by their header dumps, held against themselves alone: no error, and each defect by its name."""

from pathlib import Path

import pytest

from auditor import audit
from auditor_schemas.report import AuditReport
from tests.sparse_tables import TABLES, Tensors, config, table, write_sparse

# What no family is needed to see in a release: tables with a block of their own.
WARNINGS = {"deepseek-v4.1-flash": {"QNT205"}}
# The config names code that is not published with it.
OF_FILES = {"FIL113"}
# Parameters after unpacking: of two releases of one model they are the same.
PARAMETERS = {
    "deepseek-v3": 684_489_845_504,  # 684,531,386,000 elements less 41,540,496 scales
    "deepseek-v4.1-flash": 763_205_315_794,  # the hub shows 763 B
    "glm-5.2-fp8": 753_329_940_480,
    "glm-5.2-nvfp4": 753_329_940_480,
    "glm-5.3-flash-fp8": 321_323_031_390,
    "glm-5.3-flash-nvfp4": 321_323_031_390,
}


def alone(directory: Path, tensors: Tensors, fields: object = None, **options) -> AuditReport:
    write_sparse(directory, tensors, config=fields)
    return audit(directory, family="structure", **options)


def found(report: AuditReport) -> dict[str, str]:
    """The rules that speak above info, with their severities; what follows from another finding left out."""
    return {
        each.rule: each.severity.value
        for each in report.findings
        if each.caused_by is None and each.severity != "info" and each.rule not in OF_FILES
    }


@pytest.mark.parametrize("name", TABLES)
def test_a_release_is_consistent_with_itself_without_a_config(name, tmp_path):
    tensors = table(name)
    report = alone(tmp_path / "x", tensors)
    assert report.verdict == "passed"
    assert set(found(report)) == WARNINGS.get(name, set())
    assert report.inventory.tensors == len(tensors)
    assert sum(each.count for each in report.structure.patterns) == len(tensors)
    assert sum(each.parameters for each in report.structure.patterns) == report.structure.parameters
    assert report.structure.parameters == PARAMETERS.get(name, report.structure.parameters)


@pytest.mark.parametrize("name", [name for name in TABLES if config(name) is not None])
def test_a_release_is_consistent_with_what_its_config_declares(name, tmp_path):
    report = alone(tmp_path / "x", table(name), config(name))
    assert report.verdict == "passed"
    assert set(found(report)) == WARNINGS.get(name, set())
    assert report.structure.declared is not None


def test_formats_are_told_apart_by_what_stands_beside_codes(tmp_path):
    formats = {
        name: [(each.format, each.dtype, each.block) for each in alone(tmp_path / name, table(name)).structure.formats]
        for name in ("deepseek-v4.1-flash", "glm-5.2-nvfp4", "kimi-k2.5", "kimi-k3", "qwen3-30b-a3b-fp8")
    }
    assert formats == {
        "deepseek-v4.1-flash": [("MXFP4", "I8", "1 × 32"), ("FP8", "F8_E4M3", "32 × 32")],
        "glm-5.2-nvfp4": [("NVFP4", "U8", "1 × 16")],
        "kimi-k2.5": [("packed integers", "I32", "1 × 32")],
        "kimi-k3": [("MXFP4", "U8", "1 × 32")],
        "qwen3-30b-a3b-fp8": [("FP8", "F8_E4M3", "128 × 128")],
    }


def test_exclusions_of_a_release_that_name_no_module_are_noted(tmp_path):
    """GLM's list names self_attn.indexers_proj, a module that no layer has."""
    report = alone(tmp_path / "x", table("glm-5.2-fp8"), config("glm-5.2-fp8"))
    (note,) = [each for each in report.findings if each.rule == "QNT213"]
    assert len(note.actual) == 22
    assert all(each.endswith(".self_attn.indexers_proj") for each in note.actual)


def test_a_list_of_exclusions_without_the_mtp_layer_is_told_by_the_plain_weights(tmp_path):
    """The first revision of GLM-5.3-Flash-NVFP4 left layer 45 out of its list, and could not load it."""
    fields = config("glm-5.3-flash-nvfp4")
    listed = fields["quantization_config"]["ignore"]
    fields["quantization_config"]["ignore"] = [each for each in listed if "layers.45" not in each]
    assert len(fields["quantization_config"]["ignore"]) < len(listed)
    report = alone(tmp_path / "x", table("glm-5.3-flash-nvfp4"), fields)
    assert found(report) == {"QNT212": "warning"}
    (finding,) = [each for each in report.findings if each.rule == "QNT212"]
    assert all("layers.45." in each for each in finding.affected)
    assert finding.count == 3 * 288


EXPERT = {
    "deepseek-v4.1-flash": "layers.20.ffn.experts.17.w3.",
    "glm-5.2-nvfp4": "model.layers.40.mlp.experts.17.up_proj.",
    "kimi-k2.5": "language_model.model.layers.30.mlp.experts.17.up_proj.",
    "minimax-m2.7": "model.layers.30.block_sparse_moe.experts.17.w3.",
}


@pytest.mark.parametrize("name", EXPERT)
def test_an_expert_that_lacks_a_module_stands_out_among_the_others(name, tmp_path):
    tensors = {each: kind for each, kind in table(name).items() if not each.startswith(EXPERT[name])}
    report = alone(tmp_path / "x", tensors)
    assert (report.verdict, found(report).get("NAM201")) == ("failed", "error")
    (finding,) = [each for each in report.findings if each.rule == "NAM201"]
    assert all(each.startswith(EXPERT[name]) for each in finding.affected)
    assert set(found(report)) == {"NAM201", *WARNINGS.get(name, ())}


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("deepseek-v4.1-flash", "layers.20.ffn.experts.17.w3.scale"),
        ("deepseek-v4.1-flash", "layers.20.attn.wq_b.scale"),
        ("glm-5.2-nvfp4", "model.layers.40.mlp.experts.17.up_proj.weight_scale"),
        ("kimi-k2.5", "language_model.model.layers.30.mlp.experts.17.up_proj.weight_scale"),
        ("minimax-m2.7", "model.layers.30.self_attn.k_proj.weight_scale_inv"),
        ("qwen3-30b-a3b-fp8", "model.layers.30.self_attn.k_proj.weight_scale_inv"),
    ],
)
class TestOneScale:
    """Of one weight the scales are not there, are turned, or are beside a plain weight."""

    def test_missing(self, name, scale, tmp_path):
        report = alone(tmp_path / "x", {each: kind for each, kind in table(name).items() if each != scale})
        assert report.verdict == "failed"
        assert set(found(report)) == {"QNT201", *WARNINGS.get(name, ())}

    def test_turned(self, name, scale, tmp_path):
        tensors = table(name)
        dtype, shape = tensors[scale]
        report = alone(tmp_path / "x", tensors | {scale: (dtype, shape[::-1])})
        assert report.verdict == "failed"
        assert set(found(report)) == {"QNT204", *WARNINGS.get(name, ())}
        (finding,) = [each for each in report.findings if each.rule == "QNT204"]
        assert finding.location.tensor == scale

    def test_without_its_weight(self, name, scale, tmp_path):
        stem = scale.rpartition(".")[0]
        tensors = table(name)
        weight = next(each for each in (f"{stem}.weight", f"{stem}.weight_packed") if each in tensors)
        report = alone(tmp_path / "x", {each: kind for each, kind in tensors.items() if each != weight})
        assert report.verdict == "failed"
        assert "QNT202" in found(report)
        assert scale in next(each for each in report.findings if each.rule == "QNT202").affected


def test_a_second_scale_that_is_missing_is_told_of(tmp_path):
    """vllm#54444: a weight without it is finite garbage."""
    gone = "model.layers.40.mlp.experts.17.up_proj.weight_scale_2"
    report = alone(tmp_path / "x", {each: kind for each, kind in table("glm-5.2-nvfp4").items() if each != gone})
    assert found(report) == {"QNT201": "error"}


def test_a_norm_of_another_dtype_is_named(tmp_path):
    name = "model.layers.7.input_layernorm.weight"
    tensors = table("qwen3-30b-a3b-fp8")
    report = alone(tmp_path / "x", tensors | {name: ("F32", tensors[name][1])})
    assert found(report) == {"SHP202": "warning"}
    assert [each.location.tensor for each in report.findings if each.rule == "SHP202"] == [name]


def test_a_stack_without_one_of_its_layers_is_named(tmp_path):
    tensors = {each: kind for each, kind in table("minimax-m2.7").items() if not each.startswith("model.layers.7.")}
    report = alone(tmp_path / "x", tensors)
    assert found(report) == {"NAM202": "warning"}
    (finding,) = [each for each in report.findings if each.rule == "NAM202"]
    assert "none of 7" in finding.message


def test_a_layer_that_alone_lacks_a_projection_is_named(tmp_path):
    gone = "model.layers.7.self_attn.o_proj."
    tensors = {each: kind for each, kind in table("minimax-m2.7").items() if not each.startswith(gone)}
    report = alone(tmp_path / "x", tensors)
    assert found(report) == {"NAM203": "warning"}
    assert {each.location.tensor for each in report.findings if each.rule == "NAM203"} == {f"{gone}weight"}
