"""Each module that config.json's auto_map names is there, unless transformers has the model itself."""

from collections.abc import Iterator, Mapping
from typing import Any

from auditor.sources.entry import Entry
from auditor.text import listed, named, quoted
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="FIL113",
    slug="missing-code",
    title="auto_map names a module that is not there",
    severity=Severity.WARNING,
    scope=Scope.CONFIG,
    examines="config fields",
)
_MOST = 64  # entries looked at; transformers knows some forty


def check(config_fields: dict[str, Any], listing: Mapping[str, Entry]) -> Iterator[Failure]:
    """One failure per .py file that is named and absent; a module of another repository is that one's."""
    mapped = config_fields.get("auto_map")
    missing: dict[str, list[str]] = {}
    for auto, references in list(mapped.items())[:_MOST] if isinstance(mapped, dict) else ():
        for reference in references[:_MOST] if isinstance(references, list) else [references]:
            if not isinstance(reference, str) or "--" in reference or "." not in reference:
                continue
            file = f"{reference.split('.')[0]}.py"
            if file not in listing or listing[file].kind == "absent":
                missing.setdefault(file, []).append(auto)
    for file, autos in sorted(missing.items()):
        yield RULE.failure(
            f"auto_map names {named(file)} for {listed(map(quoted, autos))}, it is not there: transformers fails "
            "where trust_remote_code is set",
            file="config.json",
            field="auto_map",
            expected=file,
            actual="no file",
        )
