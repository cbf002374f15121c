"""Writes the settings, from their model, into deploy/service.toml and the table of service-operations.md."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from auditor.service.settings import PREFIX, Settings, described

ROOT = Path(__file__).parent.parent
EXAMPLE, PAGE = "deploy/service.toml", "docs/service-operations.md"
BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->\n"
DATA = "$XDG_DATA_HOME/auditor"

HEAD = """\
# Settings of `auditor serve --config`, each with its default: written from their model, by `make service-settings`.
# The environment outranks this file: AUDITOR_SERVICE_PORT, AUDITOR_SERVICE_HEADERS__EACH. Secrets are better kept in
# files of a folder that AUDITOR_SERVICE_SECRETS names, each called as its setting: database, hooks__hub__secret.
"""


def default_of(model: type[BaseModel], instance: BaseModel | None, name: str) -> Any:
    """A setting's default as TOML and JSON can say it; None where it has none."""
    field = model.model_fields[name]
    if instance is not None:
        value = getattr(instance, name)
    elif field.default is not PydanticUndefined:
        value = field.default
    else:
        return None
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, tuple):
        return [str(each) for each in value]
    return value


def settings() -> Iterator[tuple[str, Any, Any]]:
    """Every setting that is no table: its dotted name, its field and its default."""
    for name, field in described():
        *tables, last = name.split(".")
        model: Any = Settings
        instance: Any = Settings.model_construct(data=DATA)
        for each in tables:
            inner = default_of(model, instance, each)
            model = model.model_fields[each].annotation
            instance = inner if isinstance(inner, BaseModel) else None
        if not _is_table(field.annotation):
            yield name, field, DATA if name == "data" else default_of(model, instance, last)


def example() -> str:
    """The settings as TOML, every one commented out."""
    lines = [HEAD]
    table = ""
    every = list(settings())
    for name, field, default in sorted(every, key=lambda each: _tables(each[0])):
        tables = ".".join(_tables(name))
        if tables != table:
            table = tables
            lines += [f"\n[{table}]\n", *(f"# {line}\n" for line in _said_of(table))]
        lines += [f"\n# {field.description}{limits(field)}\n"]
        given = "" if default is None else f" {json.dumps(default)}"
        lines += [f"# {name.rpartition('.')[2]} ={given}\n"]
    return "".join(lines)


def table() -> str:
    """The settings as a table in Markdown."""
    rows = ["| setting | default | what it is |\n|---|---|---|\n"]
    for name, field, default in settings():
        shown = "" if default is None else f"`{json.dumps(default)}`"
        said = f"{field.description}{limits(field)}".replace("|", "\\|")
        rows.append(f"| `{name}` | {shown} | {said} |\n")
    return "".join(rows)


def limits(field: Any) -> str:
    """What a setting may be, where its description does not say it."""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    if choices:
        return f" One of {', '.join(choices)}."
    said = []
    for each in field.metadata:
        for bound, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most")):
            if (value := getattr(each, bound, None)) is not None:
                said.append(f"{words} {value:,}" if isinstance(value, int) else f"{words} {value}")
    return f" ({', '.join(said)})" if said else ""


def page(text: str) -> str:
    """The runbook with the table of today."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def _tables(name: str) -> list[str]:
    return name.split(".")[:-1]


def _said_of(name: str) -> list[str]:
    return [field.description for each, field in described() if each == name]


def _is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


if __name__ == "__main__":
    (ROOT / EXAMPLE).write_text(example(), encoding="utf-8")
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    (ROOT / PAGE).write_text(page(text), encoding="utf-8")
    sys.stdout.write(f"{EXAMPLE}, {PAGE}: {PREFIX}*\n")
