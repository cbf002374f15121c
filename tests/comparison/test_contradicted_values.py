"""A field that is no dimension and that the tensors contradict with one voice is one finding that names the field."""

import pytest
from msgspec.structs import replace

from auditor import audit
from auditor.forge import plan_of
from auditor.forge.content import Content
from auditor.forge.convert import unquantise
from auditor.forge.plan import Plan
from auditor.forge.write import write
from auditor.patterns import layer_of
from tests.families.test_config_variants import above_info, bf16_mtp, forged, only, quantisation, relaid

# --- weight_block_size


@pytest.mark.parametrize("declared", [[64, 128], [128, 64], [64, 64], [256, 128], [1, 128], [128, 32], [32, 256]])
def test_a_block_size_that_all_scale_grids_contradict_is_one_finding(declared, tmp_path):
    found = only(audit(forged(tmp_path / "checkpoint", quantisation(weight_block_size=declared))))
    assert (found.rule, found.severity) == ("CFG107", "error")
    assert found.location.field == "quantization_config.weight_block_size"
    assert (found.expected, found.actual) == ([128, 128], declared)
    assert found.message == f"quantization_config.weight_block_size is {declared}, the tensors show [128, 128]"


@pytest.mark.parametrize("true", [[64, 64], [32, 32], [128, 64], [1, 128]])
def test_the_block_size_that_grids_show_is_told_whatever_it_is(true, tmp_path):
    changes = [quantisation(weight_block_size=true), relaid, quantisation(weight_block_size=[256, 256])]
    found = only(audit(forged(tmp_path / "checkpoint", *changes)))
    assert (found.rule, found.expected) == ("CFG107", true)


def test_a_few_wrong_grids_contradict_no_block_size(tmp_path):
    def few(plan: Plan) -> None:
        plan.rewrite(
            lambda each: (
                replace(each, shape=(each.shape[0] + 1, each.shape[1]))
                if each.values == "scales" and layer_of(each.name) == 2
                else each,
            )
        )

    report = audit(forged(tmp_path / "checkpoint", few))
    assert {rule for rule, _ in above_info(report)} == {"QNT102"}


@pytest.mark.parametrize("shape", [lambda rows: (1,), lambda rows: (rows, 1)], ids=["per tensor", "per row"])
def test_scales_of_no_block_at_all_are_no_block_size(shape, tmp_path):
    def change(plan: Plan) -> None:
        plan.rewrite(lambda each: (replace(each, shape=shape(each.origin[0])) if each.values == "scales" else each,))

    assert {rule for rule, _ in above_info(audit(forged(tmp_path / "checkpoint", change)))} == {"QNT102"}


# --- tie_word_embeddings


def tied(plan: Plan) -> None:
    plan.config["tie_word_embeddings"] = True


def test_a_head_of_its_own_beside_tied_embeddings_is_one_finding_that_names_the_field(tmp_path):
    found = only(audit(forged(tmp_path / "checkpoint", tied)))
    assert (found.rule, found.severity, found.location.field) == ("CFG111", "warning", "tie_word_embeddings")
    assert found.message == ("tie_word_embeddings is true, lm_head.weight is stored beside model.embed_tokens.weight")


def test_tied_embeddings_without_a_head_are_sound(tmp_path):
    folder = forged(tmp_path / "checkpoint", tied, lambda plan: plan.drop("lm_head.weight".__eq__))
    assert above_info(audit(folder)) == []


def test_at_full_depth_a_stored_head_is_compared_with_the_embedding(tmp_path):
    for equal, expected in ((False, ("CFG112", "error")), (True, ("CFG111", "warning"))):
        plan = plan_of("tiny")
        tied(plan)
        if equal:
            plan.rewrite(
                lambda each: (
                    replace(each, stream="model.embed_tokens.weight") if each.stream == "lm_head.weight" else each,
                )
            )
        folder = tmp_path / str(equal)
        folder.mkdir()
        write(plan, folder, strips=Content(plan, 0).strips)
        found = only(audit(folder, depth="full"))
        assert (found.rule, found.severity) == expected
        assert ("differs from" in found.message) != equal
        assert found.location.field == "tie_word_embeddings"


# --- exempt names that match nothing


WRAPPERS = ["language_model.model.layers.4", "model.language_model.layers.4", "llm.layers.4.mlp"]


@pytest.mark.parametrize("field", ["modules_to_not_convert", "ignored_layers"])
@pytest.mark.parametrize("entry", WRAPPERS)
def test_exempt_names_of_a_wrapper_are_one_finding_that_says_what_they_would_match(entry, field, tmp_path):
    def apart(plan: Plan) -> None:
        unquantise(plan, lambda name: layer_of(name) == 4 and (".mlp." in name or "mlp" not in entry))

    names = ["lm_head", entry, "visual.blocks.0.mlp"]
    found = only(audit(forged(tmp_path / "checkpoint", apart, quantisation(**{field: names}))))
    assert (found.rule, found.severity) == ("QNT114", "error")
    assert found.location.field == f"quantization_config.{field}"
    assert entry in found.message
    assert f"'{entry.split('layers')[0]}'" in found.message


def test_exempt_names_that_match_nothing_and_hide_nothing_are_no_finding(tmp_path):
    names = [*WRAPPERS, "visual.blocks.0.mlp", "model.layers.99"]
    report = audit(forged(tmp_path / "checkpoint", quantisation(modules_to_not_convert=names)))
    assert (report.verdict, above_info(report)) == ("passed", [])


def test_a_weight_that_no_exempt_name_could_mean_stays_its_own_finding(tmp_path):
    def one(plan: Plan) -> None:
        unquantise(plan, "model.layers.2.mlp.experts.1.up_proj.weight".__eq__)

    report = audit(forged(tmp_path / "checkpoint", bf16_mtp, one, quantisation(modules_to_not_convert=WRAPPERS[:1])))
    assert above_info(report) == [("QNT109", "error"), ("QNT114", "error")]
