"""Writes docs/service-api.md from the service's OpenAPI document: python docs/make_service_api.py"""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from auditor.service import migrate
from auditor.service.installation import open_installation
from auditor.service.settings import Settings
from auditor.service.web.app import create_app

PAGE = Path(__file__).parent / "service-api.md"
_METHODS = ("get", "post", "put", "patch", "delete")
_HEAD = """# The service's API

Written from the OpenAPI document, which a running service has at `/v1/openapi.json`; `make service-api` writes it
again. A token goes into `Authorization: Bearer audtk_…`. Lists have `limit` (at most 200) and `next`, which the page
before gives. Errors are problems (RFC 9457, `application/problem+json`) with `title`, `status`, `detail` and, where a
field is wrong, `errors`.
"""


def page() -> str:
    """The page."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o700)
        installation = open_installation(Settings(data=Path(folder)))
        migrate.apply(installation.database)
        document = create_app(installation, stopped=threading.Event()).openapi()
        installation.close()
    return "\n".join([_HEAD, *_operations(document)]).rstrip() + "\n"


def _operations(document: dict[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                by_tag.setdefault(methods[method].get("tags", ["other"])[0], []).append((method, path, methods[method]))
    for tag, operations in by_tag.items():
        yield f"## {tag.capitalize()}\n"
        for method, path, operation in operations:
            yield f"### `{method.upper()} {path}`\n"
            yield f"{operation.get('description', '').strip()}\n"
            yield from _table("parameter", _parameters(operation, document))
            yield from _table("field of the body", _body(operation, document))
            yield from _table("status", _answers(operation))


def _table(first: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    if rows:
        yield f"| {first} | |\n|---|---|"
        yield from (f"| {name} | {_cell(text)} |" for name, text in rows)
        yield ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split())


def _parameters(operation: dict[str, Any], document: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"`{each['name']}` ({each['in']})", f"{each.get('description', '')} {_kind(each.get('schema', {}), document)}")
        for each in operation.get("parameters", ())
    ]


def _body(operation: dict[str, Any], document: dict[str, Any]) -> list[tuple[str, str]]:
    content = operation.get("requestBody", {}).get("content", {})
    schema = next(iter(content.values()), {}).get("schema", {})
    schema = _resolved(schema, document)
    needed = set(schema.get("required", ()))
    return [
        (
            f"`{name}`" + (" (needed)" if name in needed else ""),
            f"{each.get('description', '')} {_kind(each, document)}",
        )
        for name, each in schema.get("properties", {}).items()
    ]


def _answers(operation: dict[str, Any]) -> list[tuple[str, str]]:
    return [(status, each.get("description", "")) for status, each in sorted(operation.get("responses", {}).items())]


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


def _kind(schema: dict[str, Any], document: dict[str, Any]) -> str:
    schema = _resolved(schema, document)
    if "anyOf" in schema:
        kinds = [_kind(each, document) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(each for each in kinds if each)
    if "enum" in schema:
        return "One of " + ", ".join(f"`{each}`" for each in schema["enum"]) + "."
    if schema.get("type") == "array":
        return f"Several. {_kind(schema.get('items', {}), document)}"
    bounds = [
        f"{word} {schema[name]:,.0f}" for name, word in (("minimum", "from"), ("maximum", "to")) if name in schema
    ]
    return f"{str(schema.get('type', '')).capitalize()}{' ' if bounds else ''}{' '.join(bounds)}." if bounds else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
