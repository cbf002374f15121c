"""The options by which `serve` and `service` find an installation, and the settings that they make."""

import argparse

from auditor.errors import UsageError

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from typing import Any

    from auditor.service.settings import Settings


class MissingError(UsageError):
    """The service's packages are not installed."""


def options(parser: argparse.ArgumentParser) -> None:
    """Where the installation is."""
    parser.add_argument("--data", metavar="DIR", help="the data folder (default: $XDG_DATA_HOME/auditor)")
    parser.add_argument("--database", metavar="URL", help="postgresql://… instead of SQLite in the data folder")
    parser.add_argument("--config", metavar="FILE", help="settings as TOML (default: $AUDITOR_SERVICE_CONFIG)")


def settings(options: argparse.Namespace, **given: "Any") -> "Settings":
    """The settings of the options, the environment and the file; `given` are further ones that options name."""
    try:
        from auditor.service.settings import load
    except ImportError as error:
        raise missing(error) from None
    return load(options.config, data=options.data, database=options.database, **given)


def missing(error: ImportError) -> MissingError:
    """What to say where the service's packages are not there."""
    return MissingError(f"{error.name or 'a package'} is not installed: pip install 'checkpoint-auditor[service]'")
