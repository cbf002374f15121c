"""The OpenAPI document: what FastAPI says of the operations, with problems and tokens as they are here."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from auditor.service.web.problems import ProblemBody

_TAGS = {
    "audits": "Asked for, watched, cancelled, made again.",
    "reports": "What an audit found, in every format of the command.",
    "checkpoints": "Every source that was audited, with its history.",
    "rules": "What checkpoints are held against.",
    "policies": "What gates, by name.",
    "tokens": "Who may ask.",
    "health": "Whether the service lives and can work.",
}
_SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "An API token, which begins with `audtk_`."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-auditor",
        "description": "Somebody signed in on the pages; `auditor` on loopback. Unsafe methods need our own Origin.",
    },
}


def describe(app: FastAPI) -> None:
    """Have the application answer with this document, which is made when it is first asked for."""

    def document() -> dict[str, Any]:
        found = app.openapi_schema
        if found is None:
            found = app.openapi_schema = _document(app)
        return found

    app.openapi = document  # type: ignore[method-assign]  # as FastAPI has it extended


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
    )
    _, problems = models_json_schema([(ProblemBody, "serialization")], ref_template="#/components/schemas/{model}")
    parts = found.setdefault("components", {})
    parts.setdefault("schemas", {}).update(problems["$defs"])
    parts["securitySchemes"] = _SECURITY
    for path in found["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
            # What may answer both asks for a token first.
            if {"401", "403"} <= operation["responses"].keys():
                operation["security"] = [{name: []} for name in _SECURITY]
    return found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is there or it is not: addresses and headers have no null."""
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    found: dict[str, Any] = {name: value for name, value in schema.items() if name != "anyOf"} | kinds[0]
    return found
