"""The commands by name, and their arguments; usage errors are one line with the mend."""

import argparse
import sys
from importlib import import_module
from types import ModuleType

from auditor.cli.streams import tell

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from typing import Any, NoReturn

USAGE = 2

# Each is a file here of this name with its `options` and its `run`; the others' are not imported.
COMMANDS = {
    "audit": "audit a checkpoint: a verdict and every finding",
    "read": "one share of a full audit's reading, for jobs side by side; no verdict",
    "count": "parameter figures by every convention",
    "tensor": "one tensor: expected, actual, shard, byte range, scale",
    "report": "show a saved report again, in any format",
    "publish": "add saved reports to a static site with an index and history",
    "rules": "the catalogue of rules",
    "rule": "one rule's page",
    "forge": "write a synthetic checkpoint, sound or with one defect",
    "schema": "a JSON Schema",
    "diff": "what changed between two checkpoints or two reports",
    "verify": "whether SOURCE is what a report audited, and passed",
    "lint": "config.json and the index alone, without a shard",
    "serve": "audits on request, with pages: a service",
    "service": "administration of a service: backup, restore, doctor, tokens, watches, targets, policies",
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with the mend, exit 2."""

    def error(self, message: str) -> "NoReturn":
        """End with one line."""
        from auditor.text import shown

        self.exit(USAGE, f"auditor: {shown(message)} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: "Any" = None) -> None:
        if message and file is sys.stdout:
            tell(lambda: file.write(message))
        else:
            super()._print_message(message, file)


def module_of(command: str) -> ModuleType:
    """The file of a command."""
    return import_module(f"auditor.cli.{command}")


def parser_for(arguments: list[str]) -> argparse.ArgumentParser:
    """The parser, with the options of the command that the arguments name; others need only their names."""
    parser = Parser(
        prog="auditor",
        description="Decides whether a DeepSeek-V3-layout checkpoint is what its config.json says it is.",
        epilog="exit codes: 0 passed, 1 failed, 2 usage, 3 incomplete (something could not be audited)",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    named = next((each for each in arguments if not each.startswith("-")), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name == named:
            module_of(name).options(command)
    return parser


def source(parser: argparse.ArgumentParser, metavar: str = "SOURCE", other: str = "") -> None:
    """The argument SOURCE, and the options that say how one is opened."""
    places = "hf://org/name[@revision], s3://, gs:// or az://bucket/prefix, or https://host/path"
    parser.add_argument("source", metavar=metavar, help=f"{other}a folder, {places}")
    parser.add_argument("--revision", metavar="REV", help="the hub's branch, tag or commit (default: main)")
    parser.add_argument("--no-cache", action="store_true", help="keep no headers of remote sources, and use none")
