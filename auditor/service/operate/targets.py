"""The targets of an installation as administration sees them, and their options as words."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, get_origin

from auditor.errors import UsageError
from auditor.service.installation import Installation
from auditor.service.notify.targets import KINDS, Targets
from auditor.text import quoted, shown


def read(kind: str, words: Iterable[str]) -> dict[str, Any]:
    """What words `option=value` give a kind of target, lists between commas. Raises UsageError."""
    fields = KINDS[kind].model_fields if kind in KINDS else {}
    given: dict[str, Any] = {}
    for word in words:
        name, told, value = word.partition("=")
        if not told or name in given:
            raise UsageError(f"{quoted(word)}: give each option once, as option=value")
        several = name in fields and get_origin(fields[name].annotation) is tuple
        given[name] = value.split(",") if several else value
    return given


def lines(installation: Installation) -> Iterator[str]:
    """A line for each target, the oldest first; of its secret the name."""
    for row in Targets(installation.database, installation.settings).all():
        state = "on" if row.off_at is None else f"off since {_day(row.off_at)}: {row.off_reason}"
        options = " ".join(f"{name}={_word(value)}" for name, value in json.loads(row.options).items())
        yield f"{row.id}  {row.kind:<7}  {shown(row.name)}  {shown(options)}; {shown(state)}"


def _word(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _day(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).date().isoformat()
