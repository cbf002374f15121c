"""A checkpoint in a quantisation that is not read is one finding that names the format, not a list of dtypes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from auditor import audit, cli
from auditor.forge.plan import Plan, Tensor
from auditor.questions.lint import lint
from tests.families.test_config_variants import above_info, fields, forged, only

DATA = Path(__file__).parents[1] / "data"


def released(name: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((DATA / name).read_text())
    return fields


def quantised_as(quantization: dict[str, Any] | None) -> Callable[[Plan], None]:
    return fields(quantization_config=quantization)


def stored_as(plan: Plan, make: Callable[[str, tuple[int, int]], list[Tensor]], only: str = "") -> None:
    """Put what `make` makes of a module and its shape in the place of each FP8 weight with its scale."""

    def change(tensor: Tensor) -> list[Tensor]:
        if only not in tensor.name or tensor.values not in ("codes", "scales"):
            return [tensor]
        rows, columns = tensor.origin
        return [] if tensor.values == "scales" else make(tensor.name.removesuffix(".weight"), (rows, columns))

    plan.rewrite(change)


def tensor(name: str, dtype: str, *shape: int) -> Tensor:
    return Tensor(name, dtype, shape, "weights", name, shape)


def nvfp4(module: str, shape: tuple[int, int]) -> list[Tensor]:
    rows, columns = shape
    return [
        tensor(f"{module}.weight", "U8", rows, columns // 2),
        tensor(f"{module}.weight_scale", "F8_E4M3", rows, columns // 16),
        tensor(f"{module}.weight_scale_2", "F32"),
        tensor(f"{module}.input_scale", "F32"),
    ]


def packed(module: str, shape: tuple[int, int]) -> list[Tensor]:
    rows, columns = shape
    return [
        tensor(f"{module}.weight_packed", "I32", rows, columns // 8),
        tensor(f"{module}.weight_scale", "BF16", rows, columns // 32),
        tensor(f"{module}.weight_shape", "I32", 2),
    ]


def block_int8(module: str, shape: tuple[int, int]) -> list[Tensor]:
    rows, columns = shape
    return [
        tensor(f"{module}.weight", "I8", rows, columns),
        tensor(f"{module}.weight_scale_inv", "F32", -(-rows // 128), -(-columns // 128)),
    ]


def awq(module: str, shape: tuple[int, int]) -> list[Tensor]:
    rows, columns = shape
    return [
        tensor(f"{module}.qweight", "I32", columns, rows // 8),
        tensor(f"{module}.qzeros", "I32", columns // 16, rows // 8),
        tensor(f"{module}.scales", "F16", columns // 16, rows),
    ]


def gptq(module: str, shape: tuple[int, int]) -> list[Tensor]:
    return [*awq(module, shape), tensor(f"{module}.g_idx", "I32", shape[1])]


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv", "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:.*": {}}}
INT8 = {"quant_method": "blockwise_int8", "weight_block_size": [128], "activation_scheme": "dynamic"}
MIXED = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "moe_quant_algo": "NVFP4"}
GLM = released("config.glm-5.2-nvfp4.json")["quantization_config"] | {"quant_algo": "W4A16_AWQ"}
KIMI = released("config.kimi-k2.5.json")["text_config"]["quantization_config"] | {"format": "marlin-24"}

DECLARED = [
    (GLM, nvfp4, "W4A16_AWQ", "quantization_config.quant_algo"),
    (MIXED, nvfp4, "NVFP4", "quantization_config.moe_quant_algo"),
    (KIMI, packed, "compressed-tensors marlin-24 4-bit int", "quantization_config.format"),
    (INT8, block_int8, "block INT8", "quantization_config.quant_method"),
    (AWQ, awq, "AWQ 4-bit", "quantization_config.quant_method"),
    (GPTQ, gptq, "GPTQ 4-bit", "quantization_config.quant_method"),
    ({"quant_method": "new-in-2027"}, awq, "new-in-2027", "quantization_config.quant_method"),
]


@pytest.mark.parametrize("where", ["experts", ""])
@pytest.mark.parametrize(("quantization", "make", "name", "field"), DECLARED)
def test_a_declared_format_that_no_family_reads_is_one_finding_and_incomplete(
    quantization, make, name, field, where, tmp_path
):
    folder = forged(tmp_path / "checkpoint", quantised_as(quantization), lambda plan: stored_as(plan, make, where))
    report = audit(folder)
    found = only(report)
    assert (report.verdict, found.rule, found.severity) == ("incomplete", "QNT112", "warning")
    assert (found.location.file, found.location.field) == ("config.json", field)
    assert name in found.message
    assert report.incomplete == (found.message,)
    of_lint = lint(str(folder))
    assert (of_lint.verdict, of_lint.unread) == ("incomplete", report.incomplete)
    assert [each.message for each in of_lint.findings] == [found.message]


def test_a_format_declared_beside_a_silent_config_is_found_there(tmp_path, capsys):
    """As ModelOpt publishes: config.json says nothing, hf_quant_config.json does."""
    assert "quantization_config" not in released("config.deepseek-v3.1-nvfp4.json")
    sidecar = released("hf_quant_config.deepseek-v3.1-nvfp4.json")
    sidecar["quantization"]["quant_algo"] = "NVFP9"
    folder = forged(tmp_path / "checkpoint", quantised_as(None), lambda plan: stored_as(plan, nvfp4))
    (folder / "hf_quant_config.json").write_text(json.dumps(sidecar))
    report = audit(folder)
    found = only(report)
    assert (report.verdict, found.location.file) == ("incomplete", "hf_quant_config.json")
    assert "quantization.quant_algo in hf_quant_config.json is 'NVFP9'" in found.message
    assert cli.main(["lint", str(folder)]) == 3
    assert "QNT112 foreign-quantisation" in capsys.readouterr().out


def test_what_of_a_known_format_is_not_read_is_said(tmp_path):
    found = only(audit(forged(tmp_path / "checkpoint", quantised_as(AWQ))))
    assert "no family reads (version is 'gemv', needs 'gemm' with zero points); supported: fp8 with" in found.message


def test_a_released_nvfp4_config_is_not_called_wrong(tmp_path):
    (tmp_path / "config.json").write_bytes((DATA / "config.deepseek-v3.1-nvfp4.json").read_bytes())
    (tmp_path / "hf_quant_config.json").write_bytes((DATA / "hf_quant_config.deepseek-v3.1-nvfp4.json").read_bytes())
    assert cli.main(["lint", str(tmp_path)]) == 0


@pytest.mark.parametrize("algorithm", [None, "", 7])
def test_a_sidecar_that_quantises_no_weight_changes_nothing(algorithm, tmp_path):
    from auditor.forge.convert import bf16_conversion

    folder = forged(tmp_path / "checkpoint", bf16_conversion)
    quantization = {"quant_algo": algorithm, "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": quantization}))
    report = audit(folder)
    assert (report.verdict, above_info(report)) == ("passed", [])


def test_what_else_is_wrong_with_the_config_is_told_beside_the_format(tmp_path):
    for number, (field, rule) in enumerate((("vocab_size", "CFG103"), ("num_experts_per_tok", "CFG104"))):
        value = -1 if rule == "CFG103" else 4_000
        report = audit(forged(tmp_path / str(number), quantised_as(AWQ), fields(**{field: value})))
        assert {*above_info(report)} == {(rule, "error"), ("QNT112", "warning")}
        assert report.verdict == "incomplete"


# --- formats that nothing declares


SEEN = [(nvfp4, "NVFP4"), (packed, "compressed-tensors"), (block_int8, "block INT8"), (awq, "AWQ"), (gptq, "GPTQ")]


@pytest.mark.parametrize("where", ["experts", ""])
@pytest.mark.parametrize(("make", "name"), SEEN)
def test_tensors_of_a_format_that_fp8_is_declared_in_the_place_of_are_one_finding(make, name, where, tmp_path):
    report = audit(forged(tmp_path / "checkpoint", lambda plan: stored_as(plan, make, where)))
    found = only(report)
    assert (report.verdict, found.rule, found.severity) == ("failed", "QNT113", "error")
    assert name in found.message


@pytest.mark.parametrize("where", ["experts", ""])
@pytest.mark.parametrize(("make", "name"), SEEN)
def test_tensors_of_a_format_that_is_declared_nowhere_are_one_finding_and_incomplete(make, name, where, tmp_path):
    def undeclared(plan: Plan) -> None:
        stored_as(plan, make, where)
        del plan.config["quantization_config"]
        plan.rewrite(
            lambda each: (
                [] if each.values == "scales" else [replace(each, dtype="BF16")] if each.values == "codes" else [each]
            )
        )

    report = audit(forged(tmp_path / "checkpoint", undeclared))
    found = only(report)
    assert (report.verdict, found.rule, found.severity) == ("incomplete", "QNT113", "error")
    assert name in found.message
    assert all(each.endswith("which nothing declares") for each in report.incomplete)
    assert f" are {name}" in report.incomplete[0]


def test_one_tensor_of_another_dtype_is_no_format(tmp_path):
    def one(plan: Plan) -> None:
        plan.alter("model.layers.2.mlp.experts.1.up_proj.weight".__eq__, dtype="I8")

    assert only(audit(forged(tmp_path / "checkpoint", one))).rule == "QNT109"
