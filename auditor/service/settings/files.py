"""Settings as files have them: one of TOML, and a folder with a file for each secret."""

import os
import tomllib
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.text import shown

CONFIG = "AUDITOR_SERVICE_CONFIG"
SECRETS = "AUDITOR_SERVICE_SECRETS"

_LARGEST = 1 << 20

config: ContextVar[Path | None] = ContextVar("config", default=None)


def config_file() -> Path | None:
    """The TOML file that an option or the environment names."""
    named = config.get() or os.environ.get(CONFIG)
    return Path(named) if named else None


def toml() -> dict[str, Any]:
    """What the TOML file says. Raises UsageError where it cannot be read."""
    file = config_file()
    if file is None:
        return {}
    try:
        with file.open("rb") as opened:
            text = opened.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise UsageError(f"settings {shown(str(file))}: longer than {_LARGEST:,} bytes")
        return tomllib.loads(text.decode())
    except OSError as error:
        raise UsageError(f"settings {shown(str(file))}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise UsageError(f"settings {shown(str(file))}: not TOML: {shown(str(error))}") from None


def secrets() -> dict[str, Any]:
    """A file for each setting, by its name; `__` leads into a table. Hidden files are others' business.

    Raises UsageError where they cannot be read.
    """
    folder = os.environ.get(SECRETS)
    found: dict[str, Any] = {}
    if not folder:
        return found
    try:
        for file in sorted(Path(folder).iterdir()):
            if not file.name.startswith(".") and file.is_file():
                *tables, name = file.name.split("__")
                table = found
                for each in tables:
                    table = table.setdefault(each, {})
                table[name] = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"{SECRETS} {shown(str(error.filename or folder))}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{SECRETS} {shown(folder)}: {shown(file.name)} is not UTF-8") from None
    return found
