"""Every defect of values that forge can make is found as the one finding it declares, and headers show none of it."""

import json
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from auditor import audit
from auditor.comparison.value_facts import content_facts
from auditor.content import Reading
from auditor.errors import UsageError
from auditor.forge import breaks, forge, plan_of
from auditor.forge.content import Content
from auditor.forge.write import write
from auditor.inventory.walk import walk
from auditor.rules import catalogue
from auditor.sources import open_source
from auditor.verdict.attribute import attribute
from auditor.verdict.gate import EXIT_CODES
from auditor_schemas.config import DeepseekV3Config
from auditor_schemas.finding import Finding
from auditor_schemas.policy import DEFAULT_POLICY, Limits
from tests.reference_probes import probes

BREAKS = sorted(name for name, each in breaks().items() if each.depth == "full")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forge(tmp_path_factory.mktemp("sound") / "tiny").directory


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny checkpoint with a named break, forged once."""
    folder = tmp_path_factory.mktemp("broken")

    def forged(name: str) -> Path:
        directory = folder / name
        return directory if directory.exists() else forge(directory, break_name=name).directory

    return forged


def _findings(directory: Path) -> tuple[Finding, ...]:
    """What the rules about values find, by probes that the auditor's own readers have no part in."""
    with closing(open_source(str(directory), symlinks="follow")) as source:
        inventory = walk(source, Limits())
    config = json.loads((directory / "config.json").read_text())
    facts = {
        "inventory": inventory,
        "config": DeepseekV3Config.model_validate(config),
        "policy": DEFAULT_POLICY,
        **content_facts(probes(directory)),
    }
    blocked = {name for name, fact in facts.items() if hasattr(fact, "reason")}
    failures = []
    for module in catalogue():
        if module.rule.id.startswith("VAL") and not blocked.intersection(module.needs):
            failures.extend(module.check(**{name: facts[name] for name in module.needs}))
    return attribute(failures, inventory)


def _roots(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(each.rule, each.severity) for each in findings if each.caused_by is None and each.severity != "info"]


@pytest.mark.parametrize("name", BREAKS)
def test_break_yields_what_it_declares_and_nothing_else_above_info(name, broken):
    declared = breaks()[name]
    findings = _findings(broken(name))
    assert _roots(findings) == [(declared.rule, declared.severity)], [each.message for each in findings]
    assert {each.rule for each in findings} - {declared.rule} <= set(declared.also)


def test_sound_content_yields_nothing(sound):
    assert _findings(sound) == ()


def test_sound_content_of_another_seed_yields_nothing(tmp_path):
    assert _findings(forge(tmp_path / "x", seed=7).directory) == ()


def test_sound_content_with_powers_of_two_yields_nothing(tmp_path):
    """As V3.1 and V3.2: grids of one value throughout are common, and some blocks come back under half the scale."""
    plan = plan_of("tiny")
    plan.powers_of_two = True
    plan.config["quantization_config"]["scale_fmt"] = "ue8m0"
    write(plan, tmp_path, strips=Content(plan, seed=3).strips)
    found = probes(tmp_path)
    assert found.powers_of_two
    assert sum(values.blocks.value_equal for values in found.weights if values.blocks is not None) > 0
    assert _findings(tmp_path) == ()


def test_sound_content_is_neither_constant_nor_alike_and_its_copies_are_equal(sound):
    tensors = probes(sound).tensors
    assert not [values.name for values in tensors.values() if values.constant or values.nan or values.infinite]
    digests = [values.xxh3 for values in tensors.values()]
    equal = {name for name, values in tensors.items() if digests.count(values.xxh3) > 1}
    assert equal == {
        "model.embed_tokens.weight",
        "model.layers.4.embed_tokens.weight",
        "lm_head.weight",
        "model.layers.4.shared_head.head.weight",
    }
    medians = [values.scales.median for values in tensors.values() if values.scales is not None]
    assert max(medians) < 2 * min(medians)


@pytest.mark.parametrize("name", BREAKS)
def test_break_of_values_passes_an_audit_of_headers(name, broken):
    report = audit(broken(name))
    assert report.verdict == "passed"
    assert [finding for finding in report.findings if finding.severity != "info"] == []


@pytest.mark.parametrize("name", BREAKS)
def test_break_is_found_by_an_audit_at_depth_full(name, broken):
    declared = breaks()[name]
    report = audit(broken(name), depth="full")
    assert _roots(report.findings) == [(declared.rule, declared.severity)]
    assert EXIT_CODES[report.verdict] == declared.exit_code


# What needs every byte, or digests of all: tails, copies of whole experts and layers; and rows of zeros, which of a
# vocabulary's strips may be padding.
_WHOLE = {"zero-filled-tail", "identical-experts", "identical-layers", "zero-rows"}
SILENT = sorted(name for name in BREAKS if (breaks()[name].rule or "") >= "VAL129")


@pytest.mark.parametrize("name", sorted(set(SILENT) - _WHOLE))
def test_silent_damage_is_found_in_a_sample_that_reaches_it(name, broken):
    declared = breaks()[name]
    report = audit(broken(name), depth="sample", reading=Reading(depth="sample", seed=1))
    assert (declared.rule, declared.severity) in _roots(report.findings)


@pytest.mark.parametrize("name", SILENT)
def test_silent_damage_is_found_without_digests(name, broken):
    declared = breaks()[name]
    report = audit(broken(name), depth="full", reading=Reading(depth="full", digests=False))
    assert _roots(report.findings) == [(declared.rule, declared.severity)]


@pytest.mark.parametrize("reading", [Reading(depth="sample", seed=1), Reading(depth="full", digests=False)])
def test_sound_content_passes_a_sample_and_an_audit_without_digests(reading, sound):
    assert _roots(audit(sound, depth=reading.depth, reading=reading).findings) == []


def test_sound_content_passes_an_audit_at_depth_full(sound):
    report = audit(sound, depth="full")
    assert (report.verdict, _roots(report.findings)) == ("passed", [])


def _ends(*endings: str) -> Callable[[str], bool]:
    return lambda name: name.endswith(endings)


_EXPERT = _ends("layers.2.mlp.experts.1.up_proj.weight")
_EXPERT_SCALE = _ends("layers.2.mlp.experts.1.up_proj.weight_scale_inv")
_NORM = _ends("layers.2.post_attention_layernorm.weight")
_SCALES = _ends("_scale_inv")
_UP_AND_ONE_GATE = _ends("up_proj.weight_scale_inv", "layers.2.mlp.experts.1.gate_proj.weight_scale_inv")
# Which tensors' bytes a break may change; those of whole shards and of whole layers by their own tests.
INTENDED: dict[str, Callable[[str], bool]] = {
    "arbitrary-scales-as-ue8m0": _ends(),
    "big-endian-norm": _ends("layers.2.input_layernorm.weight"),
    "doubled-page": _EXPERT,
    "doubled-rows": _ends("embed_tokens.weight"),
    "equal-strips": _ends("layers.0.self_attn.q_b_proj.weight"),
    "equal-tensors": lambda name: ".layers.2.mlp.experts.2.up_proj." in name,
    "f16-bits-in-norm": _ends("layers.2.input_layernorm.weight"),
    "f16-bits-in-router": _ends("layers.2.mlp.gate.weight"),
    "f16-rounded-scales": _SCALES,
    "flipped-exponent-bit": _ends("layers.2.mlp.gate.weight"),
    "large-scale": _EXPERT_SCALE,
    "random-codes": _EXPERT,
    "small-scale": _EXPERT_SCALE,
    "text-in-codes": _EXPERT,
    "untied-head-is-embedding": _ends("head.weight"),
    "vanishing-scales": _EXPERT_SCALE,
    "zero-rows": _ends("head.weight"),
    "zeros-in-codes": _EXPERT,
    "bf16-rounded-scales": _SCALES,
    "constant-norm": _NORM,
    "huge-scale": _EXPERT_SCALE,
    "overflowing-scale": _EXPERT_SCALE,
    "identical-experts": lambda name: ".layers.2.mlp.experts.2." in name,
    "identical-layers": lambda name: name.startswith("model.layers.3."),
    "infinite-router": _ends("layers.2.mlp.gate.weight"),
    "infinite-scale": _EXPERT_SCALE,
    "lost-code-bit": _EXPERT,
    "nan-codes": _EXPERT,
    "nan-in-norm": _NORM,
    "nan-scale": _EXPERT_SCALE,
    "negative-scale": _EXPERT_SCALE,
    "reciprocal-scale-grid": _EXPERT_SCALE,
    "reciprocal-scales": _SCALES,
    "stale-mtp-embedding": _ends("layers.4.embed_tokens.weight"),
    "stale-mtp-head": _ends("layers.4.shared_head.head.weight"),
    "subnormal-scale": _EXPERT_SCALE,
    "swapped-scales": lambda name: "experts" in name and "shared" not in name and _UP_AND_ONE_GATE(name),
    "text-in-scales": _EXPERT_SCALE,
    "unit-scales": _SCALES,
    "zeroed-expert": lambda name: ".layers.2.mlp.experts.1." in name,
    "zero-norm": _NORM,
    "zero-scale": _EXPERT_SCALE,
    "zero-scales": _SCALES,
    "zero-weight": _EXPERT,
}


def _payload(directory: Path) -> dict[str, bytes]:
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        for name, entry in json.loads(data[8 : 8 + length]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                tensors[name] = data[8 + length + begin : 8 + length + end]
    return tensors


@pytest.mark.parametrize("name", BREAKS)
def test_break_changes_the_tensors_it_means_and_no_others(name, sound, broken):
    directory = broken(name)
    before, after = _payload(sound), _payload(directory)
    if name == "unscaled-codes":
        assert after.keys() == {each for each in before if not _SCALES(each)}
        assert {each for each in after if before[each] != after[each]} == {
            each.removesuffix("_scale_inv") for each in before if _SCALES(each)
        }
        return
    assert before.keys() == after.keys()
    changed = {each for each in before if before[each] != after[each]}
    if name == "zero-filled-tail":
        whole = {path.name: path.read_bytes() for path in sound.glob("*.safetensors")}
        cut = {file: (directory / file).read_bytes() for file in whole}
        (file,) = [file for file in whole if whole[file] != cut[file]]
        half = len(whole[file]) // 2
        assert cut[file] == whole[file][:half] + bytes(len(whole[file]) - half)
    else:
        intended = {each for each in before if INTENDED[name](each)}
        assert changed <= intended
        assert len(changed) >= len(intended)


def test_a_break_of_values_cannot_be_sparse(tmp_path):
    with pytest.raises(UsageError, match="drop --sparse"):
        forge(tmp_path / "x", sparse=True, break_name="nan-codes")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("like", ["v3", "v3.2", "tiny"])
@pytest.mark.parametrize("name", BREAKS)
def test_break_can_be_planned_for_every_layout(name, like):
    plan_of(like, breaks()[name])
