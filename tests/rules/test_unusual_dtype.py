"""Dtypes that another publisher of a family uses are one note, and no more."""

import pytest
from msgspec.structs import replace

from tests.families.test_every_release import audited, small

# transformers 5 keeps routers in F32, and exports may hold norms in the dtype of the other weights.
USUAL = {
    "v3": "mlp.gate.weight",
    "v3.2": "mlp.gate.weight",
    "glm-5.1": "mlp.gate.weight",
    "kimi-k3": "block_sparse_moe.gate.weight",
}


@pytest.mark.parametrize("like", USUAL)
def test_routers_in_f32_are_one_note_with_all_their_names(like, tmp_path):
    plan = small(like).copy()
    routers = [name for name in plan.rows if name.endswith(USUAL[like])]
    plan.alter(set(routers).__contains__, dtype="F32")
    report = audited(plan, tmp_path / "c")
    [note] = [each for each in report.findings if each.slug == "unusual-dtype"]
    assert report.verdict == "passed"
    assert {each.severity for each in report.findings} == {"info"}
    assert (note.count, note.expected, note.actual) == (len(routers), "BF16", "F32")
    assert note.message == f"{len(routers)} tensors are F32 where the release has BF16; loaders take both"


def test_the_usual_dtypes_are_no_note(tmp_path):
    report = audited(small("kimi-k3"), tmp_path / "c")
    assert "unusual-dtype" not in {each.slug for each in report.findings}


@pytest.mark.parametrize("like", ["v3", "glm-5.1"])
def test_a_checkpoint_whose_floats_are_all_f32_has_one_finding_and_no_note(like, tmp_path):
    plan = small(like).copy()
    plan.rewrite(lambda each: (replace(each, dtype="F32") if each.dtype == "BF16" else each,))
    report = audited(plan, tmp_path / "c")
    [finding] = [each for each in report.findings if each.severity == "error"]
    assert (finding.slug, finding.count) == (
        "other-float-dtype",
        sum(each.dtype == "BF16" for each in small(like).tensors()),
    )
    assert "unusual-dtype" not in {each.slug for each in report.findings}
