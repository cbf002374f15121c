"""What quantisers, converters and pruners in use write is no damage: nothing above info, and a note where it helps."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from auditor import audit
from auditor.content import Reading
from auditor.forge import plan_of
from auditor.forge.content import Content
from auditor.forge.plan import Plan
from auditor.forge.write import write
from auditor_schemas.report import AuditReport

Formula = Callable[[torch.Tensor], torch.Tensor]


class Quantised(Content):
    """Content whose scales follow another formula of each block's largest |weight|."""

    def __init__(self, plan: Plan, formula: Formula) -> None:
        super().__init__(plan, 0)
        self.formula = formula

    def _scales(self, strip: np.ndarray) -> np.ndarray:
        rows, columns = strip.shape
        padded = torch.nn.functional.pad(torch.from_numpy(strip.copy()), (0, -columns % 128, 0, -rows % 128))
        amax = padded.reshape(-(-rows // 128), 128, -(-columns // 128), 128).abs().amax(dim=(1, 3))
        return self.formula(amax).numpy()


def rounded_up(scale: torch.Tensor) -> torch.Tensor:
    mantissa, exponent = torch.frexp(scale)
    return torch.ldexp(torch.ones_like(scale), exponent - (mantissa == 0.5).int())


def written(folder: Path, formula: Formula, **quantization: object) -> Path:
    plan = plan_of("tiny")
    plan.config["quantization_config"] |= quantization
    folder.mkdir()
    write(plan, folder, strips=Quantised(plan, formula).strips)
    return folder


def above_info(report: AuditReport) -> list[str]:
    return [f"{each.rule}: {each.message}" for each in report.findings if each.severity != "info"]


def notes(report: AuditReport) -> list[str]:
    return [each.rule for each in report.findings if each.rule.startswith("VAL")]


FORMULAS: dict[str, tuple[Formula, str, list[str]]] = {
    "published": (lambda amax: amax.clamp(min=1e-4) / 448.0, "amax / 448", []),
    "reciprocal, as transformers": (lambda amax: (448.0 / amax).reciprocal(), "1 / (448 / amax)", []),
    "multiplied": (lambda amax: amax.clamp(min=1e-4) * torch.tensor(1 / 448.0), "none", []),
    "powers of two, undeclared": (
        lambda amax: rounded_up(amax.clamp(min=1e-4) / 448.0),
        "2^ceil(log2(amax / 448))",
        ["VAL121"],
    ),
    "within 240, for Gaudi 2": (lambda amax: amax / 448.0 * (448.0 / 240.0), "none", ["VAL122"]),
    "halved codes": (lambda amax: amax / 448.0 * 2.0, "amax / 448", ["VAL122"]),
    "powers of two within 240": (
        lambda amax: rounded_up(amax / 240.0),
        "2^ceil(log2(amax / 448))",
        ["VAL121", "VAL122"],
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_scales_by_a_formula_in_use_are_sound_and_named(tmp_path: Path, name: str) -> None:
    formula, told, noted = FORMULAS[name]
    folder = written(tmp_path / "x", formula)
    for depth in ("full", "sample"):
        report = audit(folder, depth=depth, reading=Reading(depth=depth, sample_bytes=3_000_000, seed=1))
        assert (report.verdict, above_info(report), notes(report)) == ("passed", [], noted), depth
        assert report.probes is not None
        assert report.probes.scale_formula == told


def test_declared_powers_of_two_within_240_are_one_note(tmp_path: Path) -> None:
    folder = written(tmp_path / "x", lambda amax: rounded_up(amax / 240.0), scale_fmt="ue8m0")
    report = audit(folder, depth="full")
    assert (report.verdict, above_info(report), notes(report)) == ("passed", [], ["VAL122"])


def edited(folder: Path, change: Callable[[Plan], None]) -> Path:
    plan = plan_of("tiny")
    change(plan)
    folder.mkdir()
    write(plan, folder, strips=Content(plan, 0).strips)
    return folder


@pytest.mark.parametrize("scale", [1e-4 / 448, 2.0**-22, 1.0])
def test_a_pruned_expert_is_a_warning_of_its_own_at_both_depths(tmp_path: Path, scale: float) -> None:
    def prune(plan: Plan) -> None:
        for layer in (2, 3):
            names = [t.name for t in plan.tensors() if t.name.startswith(f"model.layers.{layer}.mlp.experts.5.")]
            plan.edit(set(names).__contains__, lambda values: values * 0)
            plan.edit(
                {name for name in names if name.endswith("_scale_inv")}.__contains__,
                lambda values: values * 0 + np.float32(scale),
            )

    folder = edited(tmp_path / "x", prune)
    report = audit(folder, depth="full")
    assert [(each.rule, each.severity) for each in report.findings if each.severity != "info"] == [
        ("VAL119", "warning")
    ]
    assert report.verdict == "passed"
    sampled = audit(folder, depth="sample", reading=Reading(depth="sample", sample_bytes=40_000_000, seed=1))
    assert [each.rule for each in sampled.findings if each.severity != "info"] == ["VAL119"]


def test_correction_biases_of_zeros_are_one_note(tmp_path: Path) -> None:
    def lost(plan: Plan) -> None:
        plan.edit(lambda name: name.endswith("e_score_correction_bias"), lambda bias: bias * 0)

    for depth in ("full", "sample"):
        folder = edited(tmp_path / depth, lost)
        report = audit(folder, depth=depth)
        assert (report.verdict, above_info(report), notes(report)) == ("passed", [], ["VAL124"])


def test_what_has_nothing_to_look_at_has_not_passed(tmp_path: Path) -> None:
    """A checkpoint in BF16 has no codes, no scales and no blocks."""

    def unquantised(plan: Plan) -> None:
        del plan.config["quantization_config"]
        plan.drop(lambda name: name.endswith("_scale_inv"))
        plan.alter(lambda _: True, dtype="BF16")
        plan.rewrite(
            lambda t: (
                (t,) if t.values != "codes" else (type(t)(t.name, "BF16", t.shape, "dequantised", t.stream, t.origin),)
            )
        )
        plan.alter(lambda name: name.endswith("e_score_correction_bias"), dtype="F32")

    report = audit(edited(tmp_path / "x", unquantised), depth="full")
    assert (report.verdict, above_info(report)) == ("passed", [])
    outcomes = {each.rule: (each.outcome, each.reason) for each in report.outcomes}
    for rule, subject in {"VAL101": "FP8 tensors", "VAL103": "scales", "VAL109": "weight blocks"}.items():
        assert outcomes[rule] == ("not_applicable", f"nothing to look at: no {subject} read")
    assert outcomes["VAL102"][0] == "passed"


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("depth", ["full", "sample"])
def test_codes_stored_as_floats_fail_and_dequantised_weights_do_not(tmp_path: Path, dtype: str, depth: str) -> None:
    def unscaled(plan: Plan, bound: float) -> None:
        plan.config["quantization_config"] = None
        plan.config["torch_dtype"] = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[dtype]
        plan.drop(lambda name: name.endswith("_scale_inv"))
        codes = {tensor.name for tensor in plan.tensors() if tensor.values == "codes"}
        plan.alter(codes.__contains__, dtype=dtype, values="weights")

        def cast(bits: np.ndarray) -> np.ndarray:
            weight = torch.from_numpy(bits.copy())
            weight = weight.view(torch.bfloat16) if dtype == "BF16" else weight
            scaled = (weight.float() * (bound / weight.float().abs().max())).to(torch.float8_e4m3fn).float()
            kind = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[dtype]
            stored = scaled.to(kind)
            return stored.view(torch.int16).numpy().view(np.uint16) if dtype == "BF16" else stored.numpy()

        plan.edit(codes.__contains__, cast)

    report = audit(edited(tmp_path / "raw", lambda plan: unscaled(plan, 448)), depth=depth)
    assert "VAL123" in {each.rule for each in report.findings if each.severity == "error"}
    (finding,) = [each for each in report.findings if each.rule == "VAL123"]
    assert finding.count > 50 if depth == "full" else finding.count > 5
    sound = audit(edited(tmp_path / "small", lambda plan: unscaled(plan, 0.5)), depth=depth)
    assert "VAL123" not in {each.rule for each in sound.findings}


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("depth", ["full", "sample"])
def test_a_stored_head_beside_tied_embeddings_is_told_equal_or_not(tmp_path: Path, depth: str, equal: bool) -> None:
    def tie(plan: Plan) -> None:
        plan.config["tie_word_embeddings"] = True
        if equal:
            plan.alter("lm_head.weight".__eq__, stream="model.embed_tokens.weight")
            plan.alter(lambda name: name.endswith("shared_head.head.weight"), stream="model.embed_tokens.weight")

    report = audit(edited(tmp_path / "x", tie), depth=depth)
    (note,) = [each for each in report.findings if each.rule == "VAL125"]
    words = "holds the bytes of" if equal else "holds other bytes than"
    assert note.message.startswith(f"lm_head.weight {words} model.embed_tokens.weight")
    assert note.severity == "info"
