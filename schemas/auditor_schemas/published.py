"""The JSON Schemas this package publishes, by name."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from auditor_schemas.config import DeepseekV3Config, DeepseekV32Config
from auditor_schemas.diff import CheckpointDiff
from auditor_schemas.finding import Finding
from auditor_schemas.index import CheckpointIndex
from auditor_schemas.policy import Policy
from auditor_schemas.report import AuditReport
from auditor_schemas.rule import Rule


def _schema(model: type[BaseModel]) -> Callable[[], dict[str, Any]]:
    def generate() -> dict[str, Any]:
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(mode="validation")}

    return generate


SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "config": _schema(DeepseekV3Config),
    "config-v3.2": _schema(DeepseekV32Config),
    "index": _schema(CheckpointIndex),
    "policy": _schema(Policy),
    "report": _schema(AuditReport),
    "rule": _schema(Rule),
    "finding": _schema(Finding),
    "diff": _schema(CheckpointDiff),
}
