"""Every format of weights is read by its row: blocks judged beside their scales, companions by what they say."""

import json
from importlib import resources
from math import ceil, floor, log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from auditor.comparison.value_facts import content_facts, count_value_subjects
from auditor.content import Reading
from auditor.content.probes import Probes
from auditor.content.read import read_content
from auditor.families.deepseek_v3 import DeepseekLayout
from auditor.families.expectations import Expectations, Row
from auditor.families.scaling import (
    Quantiser,
    fp4_groups,
    fp8_blocks,
    fp8_tensor,
    gptq,
    int8_blocks,
    nvfp4,
    packed_int4,
    packed_nvfp4,
)
from auditor.forge.content import Content
from auditor.forge.plan import LIKES, Plan, plan_of_expectations
from auditor.forge.write import write
from auditor.inventory.facts import Blocked, Inventory
from auditor.inventory.walk import walk
from auditor.rules import catalogue
from auditor.sources import open_source
from auditor_schemas.config import DeepseekV3Config
from auditor_schemas.policy import DEFAULT_LIMITS, DEFAULT_POLICY
from auditor_schemas.rule import Failure

RULES = [module for module in catalogue() if module.rule.id.startswith("VAL")]
BLOCKS: dict[str, Quantiser] = {
    "F32": fp8_blocks((128, 128)),
    "BF16": fp8_blocks((128, 128), dtypes=("BF16",)),
    "E8M0": fp8_blocks((128, 128), scale="scale", dtypes=("F8_E8M0",), powers_of_two=True),
    "E8M0, 32 × 32": fp8_blocks((32, 32), scale="scale", dtypes=("F8_E8M0",), powers_of_two=True),
    "E8M0, 1 × 32": fp8_blocks((1, 32), scale="scale", dtypes=("F8_E8M0",), powers_of_two=True),
    "U8, 1 × 32": fp8_blocks((1, 32), dtypes=("U8",), powers_of_two=True),
    "in two chunks": fp8_blocks((128, 128), chunks=2),
}
OTHERS: dict[str, Quantiser] = {
    "MXFP4 as I8": fp4_groups(dtype="I8", scale="scale", scale_dtype="F8_E8M0"),
    "MXFP4 as U8": fp4_groups(dtype="U8", codes="weight_packed", scale="weight_scale", scale_dtype="U8"),
    "NVFP4": nvfp4(),
    "packed NVFP4": packed_nvfp4(),
    "INT4": packed_int4(),
    "GPTQ": gptq(32, ("F16",)),
    "block INT8": int8_blocks((128, 128)),
    "FP8 by tensor": fp8_tensor(),
}
EXPERT = "model.layers.2.mlp.experts.1.up_proj"


class OtherLayout(DeepseekLayout):
    """A tiny DeepSeek-V3 in another format, with a table from token to experts beside each router."""

    def __init__(self, config: DeepseekV3Config, quantiser: Quantiser) -> None:
        self.other = quantiser
        super().__init__(config)

    def quantiser(self) -> Quantiser:
        return self.other

    def moe_rows(self):
        yield from super().moe_rows()
        experts = self.config.n_routed_experts
        yield self.plain(
            "mlp.gate.tid2eid",
            (self.config.vocab_size, 2),
            "router",
            "router",
            role="table",
            dtype="I64",
            below=experts,
        )


def planned(quantiser: Quantiser) -> tuple[Plan, Expectations]:
    """A checkpoint to forge, and what its rows are."""
    text = resources.files("auditor.forge").joinpath("configs", "deepseek-v3.json").read_text("utf-8")
    changes = {"num_hidden_layers": 3, "n_routed_experts": 4, "qk_rope_head_dim": 64, "kv_lora_rank": 192}
    config = {**json.loads(text), **LIKES["tiny"].changes, **changes}
    expectations = OtherLayout(DeepseekV3Config.model_validate(config), quantiser).expectations()
    return plan_of_expectations(expectations, config, None, LIKES["tiny"]), expectations


def seen(plan: Plan, expectations: Expectations, folder: Path, **reading: Any) -> Probes:
    """What is read of a plan that is written."""
    folder.mkdir(exist_ok=True)
    write(plan, folder, strips=Content(plan, 0).strips)
    source = open_source(str(folder))
    choice = Reading(**{"depth": "full", "seed": 1} | reading)
    content = read_content(
        source,
        walk(source, DEFAULT_LIMITS),
        None,
        choice,
        mtp_layers=expectations.mtp_layers,
        expectations=expectations,
    )
    assert content.unread == ()
    return content.probes


def found(probes: Probes) -> dict[str, list[Failure]]:
    """What rules about values make of probes, by slug; notes apart."""
    facts = {**content_facts(probes), "declared_digests": {}, "inventory": Inventory(()), "policy": DEFAULT_POLICY}
    failures = {}
    for module in RULES:
        given = {name: facts.get(name) for name in module.needs}
        if any(isinstance(fact, Blocked) or fact is None for fact in given.values()) or module.rule.severity == "info":
            continue
        if each := list(module.check(**given)):
            failures[module.rule.slug] = each
    return failures


def judged(quantiser: Quantiser, folder: Path, edits: dict[str, Any] | None = None) -> dict[str, list[Failure]]:
    plan, expectations = planned(quantiser)
    for name, edit in (edits or {}).items():
        assert any(tensor.name == name for tensor in plan.tensors()), name
        plan.edit(name.__eq__, edit)
    return found(seen(plan, expectations, folder))


def codes_of(expectations: Expectations) -> dict[str, Row]:
    return {name: row for name, row in expectations.names.items() if row.quantised}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("depth", ["sample", "full"])
def test_blocks_of_every_form_come_back_as_they_were(tmp_path: Path, name: str, depth: str) -> None:
    plan, expectations = planned(BLOCKS[name])
    probes = seen(plan, expectations, tmp_path, depth=depth)
    assert found(probes) == {}
    blocks = {values.name: values.blocks for values in probes.weights}
    scales = {name: probes.companions[name][0].shape for name in blocks}
    assert all(each.blocks == each.exact + each.value_equal for each in blocks.values())
    assert not any(each.foreign for each in blocks.values())
    assert sum(each.exact for each in blocks.values()) > 0.7 * sum(each.blocks for each in blocks.values())
    if depth == "full":
        assert blocks.keys() == codes_of(expectations).keys()
        assert all(blocks[name].blocks == shape[0] * shape[1] for name, shape in scales.items())
        assert all(each.within for each in map(_within, probes.functional))
    assert not probes.unjudged


def _within(each: Any) -> Any:
    return type("Told", (), {"within": each.relative_error <= each.tolerance})


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("depth", ["sample", "full"])
def test_other_formats_are_sound_and_say_why_nothing_is_quantised_again(tmp_path: Path, name: str, depth: str) -> None:
    plan, expectations = planned(OTHERS[name])
    probes = seen(plan, expectations, tmp_path, depth=depth)
    assert found(probes) == {}
    assert list(probes.weights) == []
    assert probes.unjudged.keys() == {OTHERS[name].name}
    if depth == "full":
        read = {values.name for values in probes.tensors.values() if values.format == OTHERS[name].name}
        assert read == codes_of(expectations).keys()


@pytest.mark.parametrize("name", ["MXFP4 as I8", "MXFP4 as U8", "E8M0", "U8, 1 × 32"])
def test_a_power_of_two_is_what_its_exponent_says(tmp_path: Path, name: str) -> None:
    """Every code of E8M0 but 0xFF is 2^(code - 127), as torch has it; the first of each kind is where it is."""
    quantiser = (BLOCKS | OTHERS)[name]
    scale = next(quantiser.required(f"{EXPERT}.{quantiser.codes}"))
    plan, expectations = planned(quantiser)
    grid = next(tensor for tensor in plan.tensors() if tensor.name == scale)
    codes = np.resize(np.arange(0, 255, dtype=np.uint8), grid.shape)
    codes.flat[4] = 0xFF
    plan.edit(scale.__eq__, lambda _: codes)
    values = seen(plan, expectations, tmp_path).tensors[scale]
    scales = values.scales
    expected = torch.from_numpy(codes.copy()).view(torch.float8_e8m0fnu).double().numpy().ravel()
    usable = np.sort(expected[~np.isnan(expected)])
    assert scales is not None
    assert (scales.nan, scales.zero, scales.negative, scales.subnormal) == (1, 0, 0, 0)
    assert (scales.minimum, scales.maximum) == (usable[0], usable[-1])
    assert scales.median == usable[usable.size // 2]
    assert scales.powers_of_two == usable.size
    assert sum(scales.exponents.values()) == usable.size
    assert scales.exponents[-127] == int((codes == 0).sum())
    assert (scales.first["nan"].element, scales.first["nan"].text) == (4, "nan")
    assert scales.largest is not None
    assert scales.largest.element == int(np.nanargmax(expected))


def test_scales_in_e4m3_are_what_torch_makes_of_them(tmp_path: Path) -> None:
    plan, expectations = planned(nvfp4())
    scale = f"{EXPERT}.weight_scale"
    grid = next(tensor for tensor in plan.tensors() if tensor.name == scale)
    codes = np.resize(np.arange(256, dtype=np.uint8)[::-1].copy(), grid.shape)
    plan.edit(scale.__eq__, lambda _: codes)
    scales = seen(plan, expectations, tmp_path).tensors[scale].scales
    expected = torch.from_numpy(codes.copy()).view(torch.float8_e4m3fn).double().numpy().ravel()
    usable = np.sort(expected[expected > 0])
    assert scales is not None
    assert scales.nan == int(np.isnan(expected).sum())
    assert scales.zero == int((expected == 0).sum())
    assert scales.negative == int((expected < 0).sum())
    assert (scales.minimum, scales.median, scales.maximum) == (usable[0], usable[usable.size // 2], usable[-1])
    assert {each: int((np.floor(np.log2(usable)) == each).sum()) for each in scales.exponents} == scales.exponents
    assert scales.first["nan"].element == int(np.isnan(expected).argmax())
    assert scales.first["negative"].element == int((expected < 0).argmax())
    assert scales.first["zero"].element == int((expected == 0).argmax())


def put(value: Any, *place: int) -> Any:
    def edit(values: np.ndarray) -> np.ndarray:
        values[place if len(place) != 1 else place[0]] = value
        return values

    return edit


@pytest.mark.parametrize(
    ("name", "suffix", "edit", "slug", "message"),
    [
        ("E8M0", "scale", put(0xFF, 1, 2), "nonfinite-scale", "1 of 6 block scales is NaN or infinite, finite needed: "
         "nan at block row 1, column 2"),
        ("MXFP4 as I8", "scale", put(0xFF, 1, 2), "nonfinite-scale", "group scales is NaN or infinite, finite needed: "
         "nan at row 1, column 2"),
        ("MXFP4 as U8", "weight_scale", put(0xFF, 1, 2), "nonfinite-scale", "1 of 1,920 group scales"),
        ("NVFP4", "weight_scale", put(0x7F, 3, 4), "nonfinite-scale", "nan at row 3, column 4"),
        ("NVFP4", "weight_scale", put(0xFF, 3, 4), "nonfinite-scale", "1 of 3,840 group scales"),
        ("NVFP4", "weight_scale", put(0x80 | 0x30, 3, 4), "negative-scale", "-0.5 at row 3, column 4"),
        ("NVFP4", "weight_scale", put(0, 3, 4), "underflowed-scale", "1 of 3,840 group scales is 0, at least 2^-9"),
        ("NVFP4", "weight_scale", lambda codes: codes * 0, "zero-scale", "3,840 of 3,840 group scales are 0"),
        ("NVFP4", "weight_scale_2", lambda value: value * 0, "zero-scale", "1 of 1 scale of the whole weight is 0"),
        ("NVFP4", "weight_scale_2", lambda value: -value, "negative-scale", "scale of the whole weight is negative"),
        ("NVFP4", "weight_scale_2", lambda value: 1 / value, "impossible-scale", "makes weights of"),
        ("NVFP4", "input_scale", lambda value: value * np.float32("nan"), "nonfinite-scale", "scale of activations"),
        ("NVFP4", "input_scale", lambda value: value * 0, "zero-scale", "1 of 1 scale of activations is 0"),
        ("packed NVFP4", "weight_global_scale", lambda value: value * 0, "zero-scale", "scale of the whole weight"),
        ("INT4", "weight_scale", put(0x7FC0, 2, 1), "nonfinite-scale", "1 of 1,920 group scales"),
        ("INT4", "weight_scale", put(0xBC00, 2, 1), "negative-scale", "1 of 1,920 group scales"),
        ("INT4", "weight_shape", put(200, 1), "wrong-weight-shape", "says 192 × 200, the packed weight is 192 × 320"),
        ("BF16", "weight_scale_inv", put(0, 0, 1), "zero-scale", "1 of 6 block scales is 0"),
        ("E8M0, 1 × 32", "weight", put(0x7F, 5, 6), "nan-code", "1 of 61,440 FP8 codes read is NaN"),
        ("INT4", "weight_packed", lambda codes: codes * 0, "all-zero-tensor", "all 61,440 codes of 4 bits are 0"),
        ("NVFP4", "weight", lambda codes: codes & 0x88, "all-zero-tensor", "all 61,440 codes of 4 bits are 0"),
        ("MXFP4 as I8", "weight", lambda codes: codes * 0 + 0x21, "constant-tensor", "all 61,440 codes of 4 bits"),
    ],
)  # fmt: skip
def test_damage_is_said_by_its_rule_and_no_other(
    tmp_path: Path, name: str, suffix: str, edit: Any, slug: str, message: str
) -> None:
    failures = judged((BLOCKS | OTHERS)[name], tmp_path, {f"{EXPERT}.{suffix}": edit})
    assert failures.keys() - {"irreproducible-block"} == {slug}
    (failure,) = failures[slug]
    assert message in failure.message
    assert failure.tensor == f"{EXPERT}.{suffix}"


@pytest.mark.parametrize("rows", ["outside", "below", "twice"])
def test_tables_of_experts_name_those_that_there_are_and_none_twice(tmp_path: Path, rows: str) -> None:
    table = "model.layers.1.mlp.gate.tid2eid"
    edits = {"outside": put(4, 7, 1), "below": put(-1, 7, 1), "twice": lambda values: put(values[7, 0], 7, 1)(values)}
    plan, expectations = planned(BLOCKS["F32"])
    plan.edit(table.__eq__, edits[rows])
    probes = seen(plan, expectations, tmp_path)
    assert count_value_subjects(probes)["tables read"] == 3
    failures = found(probes)
    assert failures.keys() == {"impossible-table"}
    (failure,) = failures["impossible-table"]
    told = {
        "outside": "1 number is not in 0 to 3, the first (4) at row 7, column 1",
        "below": "1 number is not in 0 to 3, the first (-1) at row 7, column 1",
        "twice": "1 of 520 rows holds a number twice, the first row 7",
    }
    assert failure.message == told[rows]
    assert failure.begin is not None
    assert failure.end == failure.begin + 8


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_whose_codes_lost_their_highest_bit_is_placed(tmp_path: Path, name: str) -> None:
    quantiser = BLOCKS[name]
    rows, columns = quantiser.block

    def edit(codes: np.ndarray) -> np.ndarray:
        top, left = (96 if quantiser.chunks > 1 else rows), columns
        codes[top : top + rows, left : left + columns] &= 0xBF
        return codes

    failures = judged(quantiser, tmp_path, {f"{EXPERT}.weight": edit})
    assert failures.keys() == {"irreproducible-block"}
    (failure,) = failures["irreproducible-block"]
    assert "block row 1, column 1" in failure.message


def test_scales_of_large_grids_are_read_beside_each_strip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, expectations = planned(BLOCKS["E8M0, 1 × 32"])
    whole = seen(plan, expectations, tmp_path)
    monkeypatch.setattr("auditor.content.plan.STRIP_BYTES", 1000)
    beside = seen(plan, expectations, tmp_path)
    assert {values.name: values.blocks for values in whole.weights} == {
        values.name: values.blocks for values in beside.weights
    }
    sampled = seen(plan, expectations, tmp_path, depth="sample", sample_bytes=1_500_000)
    assert found(sampled) == {}
    assert sum(shard.bytes_read for shard in sampled.shards) <= 1_500_000
    assert any(values.blocks for values in sampled.weights)


@pytest.mark.parametrize("name", ["MXFP4 as U8", "NVFP4", "INT4"])
def test_an_expert_that_was_quantised_from_zeros_is_one_finding(tmp_path: Path, name: str) -> None:
    quantiser = OTHERS[name]
    zero = {"MXFP4 as U8": 0, "NVFP4": 0, "INT4": 0x88888888}[name]
    edits = {
        f"{EXPERT.replace('up', projection)}.{quantiser.codes}": lambda codes: codes * 0 + codes.dtype.type(zero)
        for projection in ("gate", "up", "down")
    }
    failures = judged(quantiser, tmp_path, edits)
    assert failures.keys() == {"zeroed-expert"}
    (failure,) = failures["zeroed-expert"]
    assert "expert 1 of layer 2 is 0 in all 3 matrices" in failure.message


@pytest.mark.parametrize("formula", ["ceil(log2(amax / 6))", "floor(log2(amax)) - 2"])
def test_any_block_of_e2m1_comes_back_with_the_same_values_so_that_a_round_trip_would_tell_nothing(formula):
    codes = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    for amax in codes[1:]:
        scale = 2.0 ** (ceil(log2(amax / 6)) if formula.startswith("ceil") else floor(log2(amax)) - 2)
        assert scale <= 1
        assert {code / scale for code in codes if code <= amax} <= set(codes)
