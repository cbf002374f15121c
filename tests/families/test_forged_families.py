"""A forged checkpoint of each release audits clean, with the release's own totals; one with a defect fails by name."""

from pathlib import Path
from typing import Any

import pytest

from auditor import audit
from auditor.errors import UsageError
from auditor.forge import LIKES, breaks, forge, plan_of
from auditor.forge.plan import Like, Plan
from auditor.forge.write import write
from tests.families import test_glm_moe_dsa, test_mimo_v2, test_minimax_m2, test_qwen3_moe

# Sources: published header dumps and file sizes of the releases, by tensors and payload bytes.
RELEASES = {
    "glm-5.1": (59_870, 1_507_728_316_928),
    "glm-5.2-fp8": (118_629, 755_617_140_416),
    "kimi-k2": (139_644, 1_029_173_256_720),
    "minimax-m2.7": (96_103, 230_121_630_720),
    "qwen3-30b-fp8": (37_491, 31_170_895_872),
    "mimo-v2.5": (73_081, 315_031_102_208),
    "mimo-v2.5-pro": (159_581, 1_033_369_538_304),
}

# Entries of the releases' own exclusion lists that name no tensor: a module that does not exist, and what a loader
# calls an MTP module. They are told, for information.
UNMATCHED = {"glm-5.2-fp8": "22 of 541 entries", "mimo-v2.5": "1 of 49 entries", "mimo-v2.5-pro": "1 of 71 entries"}


def audited(plan: Plan, folder: Path):
    folder.mkdir()
    write(plan, folder, strips=None)
    return audit(folder)


@pytest.mark.slow
@pytest.mark.parametrize("like", RELEASES)
def test_a_checkpoint_of_full_size_is_sound_and_has_the_totals_of_the_release(like, tmp_path):
    report = audited(plan_of(like), tmp_path / "c")
    assert report.verdict == "passed"
    assert [each.message for each in report.findings if each.severity != "info"] == []
    told = [each.message.partition(" name ")[0] for each in report.findings]
    assert told == ([UNMATCHED[like]] if like in UNMATCHED else [])
    assert (report.inventory.tensors, report.inventory.payload_bytes) == RELEASES[like]


@pytest.mark.slow
@pytest.mark.parametrize("like", RELEASES)
def test_a_dropped_a_retyped_and_a_reshaped_tensor_fail_by_name(like, tmp_path):
    plan = plan_of(like)
    experts = [name for name, row in plan.rows.items() if row.experts and row.role == "weight"]
    router = [name for name, row in plan.rows.items() if row.module == "router" and row.role == "weight"]
    dropped, retyped, reshaped = experts[len(experts) // 2], experts[len(experts) // 3], router[len(router) // 2]
    plan.drop(dropped.__eq__)
    plan.alter(retyped.__eq__, dtype="F16")
    rows, columns = plan.rows[reshaped].shape
    plan.alter(reshaped.__eq__, shape=(rows + 1, columns))
    report = audited(plan, tmp_path / "c")
    assert report.verdict == "failed"
    named = {name for each in report.findings if each.severity == "error" for name in each.affected}
    assert {dropped, retyped, reshaped} <= named


# --- breaks

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "glm-5": ("glm-5.2-fp8", {**test_glm_moe_dsa.SMALL, "indexer_types": ["full"] * 5, "mlp_layer_types": None}),
    "minimax-m2": ("minimax-m2.7", test_minimax_m2.SMALL),
    "qwen3-moe": ("qwen3-30b-a3b-fp8", test_qwen3_moe.SMALL),
    "mimo-v2.5": ("mimo-v2.5-pro", test_mimo_v2.SMALL),
}
BREAKS = [
    "missing-router", "missing-norm", "missing-head", "missing-expert", "missing-layer", "missing-block-scale",
    "expert-beyond-config", "expert-parallel-rank", "quantised-router", "quantised-head", "renamed-block-scales",
    "unquantised-weight", "wrong-norm-shape", "transposed-router", "layers-from-one",
]  # fmt: skip


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("name", BREAKS)
def test_a_break_is_found_by_its_rule_in_every_layout(family, name, tmp_path, monkeypatch):
    config, changes = SMALL[family]
    monkeypatch.setitem(LIKES, "small", Like(config=config, changes=changes, limit=20_000))
    report = audited(plan_of("small", breaks()[name]), tmp_path / "c")
    assert breaks()[name].rule in {each.rule for each in report.findings if each.caused_by is None}
    assert report.verdict == "failed"


@pytest.mark.parametrize("name", ["missing-mtp-module", "bf16-router-bias", "scale-grid-rounded-down"])
def test_a_break_of_what_a_layout_does_not_have_is_refused(name, tmp_path):
    with pytest.raises(UsageError, match=f"--break {name}: --like qwen3-30b-fp8 has nothing of that kind"):
        forge(tmp_path / "c", like="qwen3-30b-fp8", sparse=True, break_name=name)
    assert not (tmp_path / "c").exists()
