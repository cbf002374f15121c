"""Breaks are found by their rules in every layout that has what they break, and refused in others."""

from pathlib import Path
from typing import Any

import pytest

from auditor import audit
from auditor.errors import UsageError
from auditor.forge import LIKES, breaks, forge, plan_of
from auditor.forge.plan import Like, Plan
from auditor.forge.write import write
from tests.families import test_glm_moe_dsa, test_mimo_v2, test_minimax_m2, test_qwen3_moe
from tests.families.test_every_release import small


def audited(plan: Plan, folder: Path):
    folder.mkdir()
    write(plan, folder, strips=None)
    return audit(folder)


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


@pytest.mark.parametrize(
    ("like", "module", "message"),
    [
        ("glm-5.2-fp8", "model.layers.78.", "num_nextn_predict_layers is 1, layer 78 has no tensor"),
        ("v4-flash", "mtp.2.", "compress_ratios has 46 entries, 3 of them for MTP, mtp.2 has no tensor"),
        (
            "mimo-v2.5-pro",
            "model.mtp.layers.2.",
            "num_nextn_predict_layers is 3 where it is absent, model.mtp.layers.2 has no tensor",
        ),
    ],
)
def test_a_missing_mtp_module_is_named_as_its_layout_names_it_and_by_what_counts_it(like, module, message, tmp_path):
    plan = small(like).copy()
    plan.drop(lambda name: name.startswith(module))
    report = audited(plan, tmp_path / "c")
    assert [each.message for each in report.findings if each.rule == "MTP101"] == [message]


@pytest.mark.parametrize("name", ["missing-mtp-module", "bf16-router-bias", "scale-grid-rounded-down"])
def test_a_break_of_what_a_layout_does_not_have_is_refused(name, tmp_path):
    with pytest.raises(UsageError, match=f"--break {name}: --like qwen3-30b-fp8 has nothing of that kind"):
        forge(tmp_path / "c", like="qwen3-30b-fp8", sparse=True, break_name=name)
    assert not (tmp_path / "c").exists()
