"""The arguments of every command, and usage errors that are one line with the mend."""

import argparse
from typing import NoReturn

USAGE = 2


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with the mend, exit 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"auditor: {message} (see {self.prog} --help)\n")


def parser_for(arguments: list[str]) -> argparse.ArgumentParser:
    """The parser, with the options of the command that the arguments name; others need only their names."""
    parser = _Parser(
        prog="auditor",
        description="Decides whether a DeepSeek-V3-layout checkpoint is what its config.json says it is.",
        epilog="exit codes: 0 passed, 1 failed, 2 usage, 3 incomplete (something could not be audited)",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, (text, options) in _COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name in arguments:
            options(command)
    return parser


def _audit_options(parser: argparse.ArgumentParser) -> None:
    _source(parser)
    parser.add_argument("--depth", choices=["headers"], default="headers", help="what is read (default: headers)")
    parser.add_argument("--family", metavar="NAME", help="audit as this model family whatever model_type says")
    parser.add_argument("--policy", metavar="FILE", help="a TOML policy: limits and symlinks")
    parser.add_argument(
        "--fail-on", choices=["error", "warning", "never"], default="error", help="what fails (default: error)"
    )
    _outputs(parser)


def _count_options(parser: argparse.ArgumentParser) -> None:
    _source(parser, "SOURCE|CONFIG", "a config.json, ")
    parser.add_argument("--family", metavar="NAME", help="count as this model family")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON ('-' is standard output)")


def _tensor_options(parser: argparse.ArgumentParser) -> None:
    _source(parser)
    parser.add_argument("name", metavar="NAME", help="the tensor's full name")
    parser.add_argument("--family", metavar="NAME", help="expect the tensors of this model family")


def _report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", metavar="REPORT.json", help="a report that `audit --json` wrote")
    _outputs(parser)


def _rules_options(_: argparse.ArgumentParser) -> None:
    """The catalogue takes none."""


def _rule_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rule", metavar="ID", help="a rule's id or slug, such as QNT102 or mismatched-block-scale")


def _forge_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", nargs="?", help="a new or empty folder")
    parser.add_argument("--like", choices=["v3", "v3.2", "tiny"], default="tiny", help="which layout (default: tiny)")
    parser.add_argument("--sparse", action="store_true", help="real headers, holes for data")
    parser.add_argument("--break", dest="break_name", metavar="NAME", help="one defect (see --list-breaks)")
    parser.add_argument("--list-breaks", action="store_true", help="list the defects and what they must produce")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of real content (default: 0)")
    parser.add_argument("--yes-689-gb", action="store_true", help="write 689 GB of real data")


def _schema_options(parser: argparse.ArgumentParser) -> None:
    names = "config, config-v3.2, index, policy, report, rule or finding"
    parser.add_argument("name", metavar="NAME", nargs="?", help=names)


_COMMANDS = {
    "audit": ("audit a checkpoint: a verdict and every finding", _audit_options),
    "count": ("parameter figures by every convention", _count_options),
    "tensor": ("one tensor: expected, actual, shard, byte range, scale", _tensor_options),
    "report": ("show a saved report again, in any format", _report_options),
    "rules": ("the catalogue of rules", _rules_options),
    "rule": ("one rule's page", _rule_options),
    "forge": ("write a synthetic checkpoint, sound or with one defect", _forge_options),
    "schema": ("a JSON Schema", _schema_options),
}


def _source(parser: argparse.ArgumentParser, metavar: str = "SOURCE", other: str = "") -> None:
    places = "hf://org/name[@revision], s3://, gs:// or az://bucket/prefix, or https://host/path"
    parser.add_argument("source", metavar=metavar, help=f"{other}a folder, {places}")
    parser.add_argument("--revision", metavar="REV", help="the hub's branch, tag or commit (default: main)")
    parser.add_argument("--no-cache", action="store_true", help="keep no headers of remote sources, and use none")


def _outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON ('-' is standard output)")
    parser.add_argument("--html", metavar="FILE", help="write the report as one HTML page ('-' is standard output)")
    parser.add_argument("--quiet", action="store_true", help="print the verdict line alone")
