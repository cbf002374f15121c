"""A name leads to the cell of the map in which the audit counts it, for every family."""

import json
from pathlib import Path

import pytest

from auditor.families import families
from auditor_reports.view_findings import touched
from auditor_schemas.finding import Location
from tests.made_reports import finding

CONFIGS = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("name", ["deepseek-v3", "deepseek-v3.2"])
def test_page_and_audit_place_every_kind_of_tensor_alike(name: str) -> None:
    fields = json.loads((CONFIGS / f"config.{name}.json").read_text())
    family = next(each for each in families().values() if fields["model_type"] in each.model_types)
    names = family.expectations(family.config.model_validate({**fields, "attention_bias": True})).names
    kinds = {(row.top, row.suffix): (tensor, row) for tensor, row in names.items()}
    assert len(kinds) > 40
    for tensor, row in kinds.values():
        found = finding("NAM101", "missing-tensor", "error", "is missing", location=Location(tensor=tensor))
        assert list(touched(found)) == [row.module], tensor
