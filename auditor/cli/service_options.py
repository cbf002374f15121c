"""The options by which `serve` and `service` find an installation, and the settings that they make."""

import argparse

from auditor.cli.arguments import Parser
from auditor.errors import UsageError

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from auditor.service.settings import Settings

    Actions = argparse._SubParsersAction[Any]
    Act = Callable[[argparse.Namespace, Settings], int]


class MissingError(UsageError):
    """The service's packages are not installed."""


class ActionParser(Parser):
    """A parser of actions, one of which may be `meant` where a source stands in the place of its name."""

    meant: str | None = None

    def parse_known_args(self, args: "Any" = None, namespace: "Any" = None) -> "Any":
        """What argparse asks of each action's parser."""
        if self.meant is not None and args and "/" in args[0]:
            args = [self.meant, *args]
        return super().parse_known_args(args, namespace)


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


def action(actions: "Actions", name: str, act: "Act", text: str) -> argparse.ArgumentParser:
    """One thing that `service` does, to the installation that options name."""
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    parser.set_defaults(act=act)
    options(parser)
    return parser


def group(actions: "Actions", name: str, text: str, meant: str | None = None) -> "Actions":
    """Several of them under one name; `meant` is the one that a source alone asks for."""
    parser = actions.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    parser.meant = meant
    return parser.add_subparsers(dest="what", metavar="WHAT", required=True)  # type: ignore[no-any-return]  # a class of argparse's own
