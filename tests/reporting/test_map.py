"""The map's cells, and which of them each finding is in: both by the rows of the family, in one way."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor import audit
from auditor.families import families
from auditor.families.expectations import Expectations
from auditor.forge import forge
from auditor.inventory.facts import Inventory
from auditor.reporting.map import MOST_PLACES, locate
from auditor.rules import catalogue
from auditor.verdict.attribute import trace
from auditor_schemas.rule import Failure

CONFIGS = Path(__file__).parents[1] / "data"
RULE = next(each.rule for each in catalogue() if each.rule.slug == "missing-tensor")


def expected(name: str = "deepseek-v3") -> Expectations:
    fields = json.loads((CONFIGS / f"config.{name}.json").read_text())
    family = next(each for each in families().values() if fields["model_type"] in each.model_types)
    return family.expectations(family.config.model_validate({**fields, "attention_bias": True}))


def cells_of(*failures: Failure, of: Expectations) -> str:
    (found,) = locate(trace(failures, Inventory(())), of)
    return found.finding.cells


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("model.layers.17.mlp.experts.200.down_proj.weight_scale_inv", "experts:17/200"),
        ("model.layers.5.input_layernorm.weight", "norms:5"),
        ("model.norm.weight", "norms:top"),
        ("model.layers.61.eh_proj.weight", "mtp:61"),
        ("model.layers.61.mlp.experts.3.up_proj.weight", "experts:61/3"),
        ("lm_head.weight", "head:top"),
        ("ema.decay", "other:top"),
        ("model.layers.0.mlp.experts.3.up_proj.weight", "other:0"),
        ("model.layers.7.rotary_emb.inv_freq", "other:7"),
    ],
)
def test_finding_says_the_cell_of_its_tensor(name, cells):
    assert cells_of(RULE.failure("is missing", tensor=name), of=expected()) == cells


def test_finding_in_many_layers_and_experts_says_them_in_ranges():
    names = [f"model.layers.{layer}.mlp.experts.{each}.up_proj.weight" for layer in (3, 4, 5) for each in range(256)]
    names += ["model.layers.9.mlp.experts.61.up_proj.weight", "model.norm.weight", "model.layers.9.mlp.gate.weight"]
    failures = (RULE.failure("is missing", tensor=name) for name in names)
    assert cells_of(*failures, of=expected()) == "experts:3-5/0-255,9/61;norms:top;router:9"


def test_failure_that_names_no_tensor_is_where_what_it_takes_is_expected():
    failure = RULE.failure("is not there", file="a", takes=("model.layers.4.mlp.gate.weight", "elsewhere"))
    assert cells_of(failure, of=expected()) == "router:4"


def test_finding_in_too_many_places_says_the_layers_and_then_the_first_and_the_last():
    of = expected()
    scattered = [
        RULE.failure("is missing", tensor=f"model.layers.{layer}.mlp.experts.{expert}.up_proj.weight")
        for layer in range(3, 40)
        for expert in range(layer % 2, 256, 2)
    ]
    assert len(scattered) > MOST_PLACES
    assert cells_of(*scattered, of=of) == "experts:3-39"
    everywhere = [RULE.failure("is", tensor=f"model.layers.{2 * layer}.x") for layer in range(1, MOST_PLACES + 2)]
    assert cells_of(*everywhere, of=of) == f"other:2-{2 * MOST_PLACES + 2}"


@pytest.mark.parametrize("name", ["deepseek-v3", "deepseek-v3.2"])
def test_every_kind_of_tensor_is_in_the_cell_that_counts_it(name):
    of = expected(name)
    kinds = {(row.top, row.suffix): (tensor, row) for tensor, row in of.names.items()}
    assert len(kinds) > 40
    for tensor, row in kinds.values():
        assert cells_of(RULE.failure("is", tensor=tensor), of=of).startswith(f"{row.module}:"), tensor


def _places(cells: str) -> Iterator[tuple[int | None, str]]:
    for module, _, places in (each.partition(":") for each in cells.split(";") if each):
        for layers in (place.split("/")[0] for place in places.split(",")):
            first, _, last = layers.partition("-")
            numbers = [None] if first == "top" else range(int(first), int(last or first) + 1)
            yield from ((layer, module) for layer in numbers)


@pytest.mark.parametrize(
    "break_name",
    ["missing-shard", "missing-block-scale", "unexpected-tensors", "config-wrong-kv-rank", "missing-mtp-module"],
)
def test_every_marked_cell_has_its_finding_and_every_finding_s_cells_are_marked(tmp_path, break_name):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name=break_name)
    report = audit(tmp_path / "checkpoint")
    marked = {(each.layer, each.module) for each in report.cells if each.worst != "passed"}
    assert marked
    assert {place for each in report.findings for place in _places(each.cells)} == marked


def test_findings_of_a_checkpoint_of_no_family_are_in_no_cell(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name="missing-config")
    report = audit(tmp_path / "checkpoint")
    assert report.findings
    assert {each.cells for each in report.findings} == {""}
