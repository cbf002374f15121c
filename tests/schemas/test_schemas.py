"""The published JSON Schemas: committed, current, and agreed on by a validator that nobody here wrote."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from auditor import audit
from auditor.forge import forge
from auditor_schemas.policy import Limits
from auditor_schemas.published import SCHEMAS
from auditor_schemas.report import AuditReport

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_committed_schema_is_the_models(name):
    """`make schemas` writes them again."""
    committed = json.loads((ROOT / "schemas" / "json" / f"{name}.json").read_text())
    assert committed == SCHEMAS[name]()


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schema_is_valid_itself(name):
    Draft202012Validator.check_schema(SCHEMAS[name]())


@pytest.mark.parametrize(("schema", "file"), [("config", "deepseek-v3"), ("config-v3.2", "deepseek-v3.2")])
def test_released_config_is_valid_by_its_schema(schema, file):
    config = json.loads((DATA / f"config.{file}.json").read_text())
    Draft202012Validator(SCHEMAS[schema]()).validate(config)


@pytest.mark.parametrize("broken", [None, "missing-shard", "config-one-expert-more", "missing-metadata", "not-json"])
def test_report_is_valid_by_its_schema_and_reads_back_equal(broken, tmp_path):
    name = "config-not-json" if broken == "not-json" else broken
    forge(tmp_path / "checkpoint", like="tiny", sparse=True, break_name=name)
    report = audit(tmp_path / "checkpoint")
    document = json.loads(report.model_dump_json())
    Draft202012Validator(SCHEMAS["report"]()).validate(document)
    assert AuditReport.model_validate_json(report.model_dump_json()) == report


def test_every_limit_is_documented_with_its_default():
    text = (ROOT / "docs" / "policy.md").read_text()
    for name, field in Limits.model_fields.items():
        assert f"| `{name}` | {field.default:,} |" in text
