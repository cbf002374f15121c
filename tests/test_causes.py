"""One cause of many disagreements is one finding that names it, and what else is wrong is still told."""

import re
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from auditor import audit
from auditor.forge import planned
from auditor.forge.convert import bf16_conversion
from auditor.forge.plan import Plan
from auditor.forge.write import write


@pytest.fixture
def roots(tmp_path):
    """The findings of a changed checkpoint that follow from no other, those for information left out."""

    def found(change: Callable[[Plan], object], like: str = "tiny") -> list[tuple[str, str, int, str]]:
        plan = planned(like)
        change(plan)
        directory = tmp_path / f"checkpoint-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        write(plan, directory, strips=None)
        return [
            (each.rule, each.severity.value, each.count, each.message)
            for each in audit(directory).findings
            if each.caused_by is None and each.severity != "info"
        ]

    return found


def renaming(pattern: str, replacement: str) -> Callable[[Plan], None]:
    return lambda plan: plan.rewrite(lambda each: (replace(each, name=re.sub(pattern, replacement, each.name)),))


def shaped(plan: Plan, wanted: str, shape: Callable[[tuple[int, ...]], tuple[int, ...]]) -> None:
    plan.rewrite(
        lambda each: (
            replace(each, shape=shape(each.shape), origin=shape(each.shape)) if re.search(wanted, each.name) else each,
        )
    )


def both(*changes: Callable[[Plan], object]) -> Callable[[Plan], None]:
    def change(plan: Plan) -> None:
        for each in changes:
            each(plan)

    return change


# --- names

NAMES = {
    "prefix": (r"^", "language_model.", 309, "have 'language_model.' in their names"),
    "prefix but for lm_head": (r"^(?!lm_head)", "language_model.", 308, "have 'language_model.' in their names"),
    "prefix of some": (r"^(?=model\.layers\.[123])", "module.", 210, "have 'module.' in their names"),
    "infix": (r"^model\.", "model.language_model.", 308, "have 'language_model.' in their names"),
    "infix of layers": (r"^(model\.layers\.\d+\.)", r"\1_orig_mod.", 306, "have '_orig_mod.' in their names"),
    "infix of modules": (r"(_proj)\.", r"\1.base_layer.", 263, "have 'base_layer.' in their names"),
    "two words": (r"^", "base_model.model.", 309, "have 'base_model.model.' in their names"),
    "no model": (r"^model\.", "", 308, "lack 'model.' in front"),
    "other head": (r"^model\.", "transformer.", 308, "have 'transformer.' where 'model.' is needed"),
    "other word": (r"\.self_attn\.", ".attention.", 60, "have 'attention.' where 'self_attn.' is needed"),
    "MTP module": (r"^model\.layers\.4\.", "mtp.", 76, "have 'mtp.' where 'model.layers.4.' is needed"),
    "MTP modules": (r"^model\.layers\.4\.", "model.mtp.layers.0.", 76, "have 'model.mtp.layers.0.' where"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_with_one_piece_too_many_too_few_or_other_are_one_finding_that_shows_the_piece(name, roots):
    pattern, replacement, count, words = NAMES[name]
    (found,) = roots(renaming(pattern, replacement))
    assert found[:3] == ("NAM104", "error", count)
    assert words in found[3]
    assert "such as" in found[3]


@pytest.mark.slow
@pytest.mark.parametrize("like", ["v3", "v3.2"])
@pytest.mark.parametrize("name", ["prefix but for lm_head", "infix of layers", "no model"])
def test_the_same_holds_at_full_size(name, like, roots):
    pattern, replacement, _, words = NAMES[name]
    (found,) = roots(renaming(pattern, replacement), like)
    assert (found[0], words in found[3]) == ("NAM104", True)


def test_what_is_missing_beside_a_prefix_is_still_missing(roots):
    found = roots(
        both(renaming("^", "module."), lambda plan: plan.drop(lambda name: name.endswith("2.mlp.gate.weight")))
    )
    assert [each[:3] for each in found] == [("NAM101", "error", 1), ("NAM104", "error", 308)]


def test_names_of_another_format_are_one_finding_though_some_are_alike(roots):
    words = {
        "model.layers": "blk", "self_attn.q_a_proj": "attn_q_a", "self_attn.": "attn_", "mlp": "ffn",
        "layernorm": "norm", "embed_tokens": "token_embd",
    }  # fmt: skip
    found = roots(both(*(renaming(re.escape(old), new) for old, new in words.items())))
    assert [each[:2] for each in found] == [("NAM104", "error")]
    assert "tensors of other names are, such as" in found[0][3]


def test_a_tensor_that_is_missing_where_another_name_is_too_many_stays_two_findings(roots):
    """The undeclared module's norm is no final norm under another name."""

    def change(plan):
        plan.drop("model.norm.weight".__eq__)
        del plan.config["num_nextn_predict_layers"]

    assert [each[0] for each in roots(change)] == ["NAM101", "MTP102"]


# --- shapes


@pytest.mark.parametrize("wanted", [".", r"layers\.2\.", r"_proj"])
def test_tensors_without_an_element_are_one_finding_whatever_shapes_they_need(wanted, roots):
    (found,) = roots(lambda plan: shaped(plan, wanted, lambda shape: (0,)))
    assert found[:2] == ("SHP105", "error")


@pytest.mark.slow
def test_a_release_of_placeholders_is_one_finding(roots):
    (found,) = roots(lambda plan: shaped(plan, "", lambda shape: (0,)), "v3")
    assert found[:3] == ("SHP105", "error", 91_991)


def test_a_tensor_of_another_shape_beside_empty_ones_is_still_told(roots):
    def change(plan):
        shaped(plan, r"layers\.2\.", lambda shape: (0,))
        shaped(plan, r"layers\.1\.input_layernorm", lambda shape: (shape[0] + 1,))

    assert [each[:3] for each in roots(change)] == [("SHP101", "error", 1), ("SHP105", "error", 70)]


@pytest.mark.parametrize(
    ("shape", "how"),
    [
        (lambda shape: shape[::-1], "(transposed)"),
        (lambda shape: (1, *shape), "(dimensions of 1 more or fewer)"),
        (lambda shape: (shape[0] * shape[1],), "(the same number of elements)"),
    ],
)
def test_shapes_that_differ_in_one_way_are_one_finding_whatever_shapes_they_need(shape, how, roots):
    def change(plan):
        bf16_conversion(plan)
        shaped(plan, "_proj", shape)

    (found,) = roots(change)
    assert (found[0], how in found[3]) == ("SHP101", True)


def test_without_an_index_missing_shards_contradict_no_field(tmp_path):
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    plan = planned("tiny")
    plan.edit_index = lambda data: None
    write(plan, directory, strips=None)
    for path in sorted(directory.glob("*.safetensors"))[2:]:
        path.unlink()
    assert "CFG107" not in {each.rule for each in audit(directory).findings}
