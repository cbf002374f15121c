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
    parser.add_argument("source", metavar="SOURCE", help="the folder with config.json, the index and the shards")
    parser.add_argument("--depth", choices=["headers"], default="headers", help="what is read (default: headers)")
    parser.add_argument("--family", metavar="NAME", help="audit as this model family whatever model_type says")
    parser.add_argument("--policy", metavar="FILE", help="a TOML policy: what gates, is required, allowed, waived")
    parser.add_argument("--baseline", metavar="REPORT.json", help="a report whose findings do not gate again")
    parser.add_argument("--symlinks", choices=["follow", "inside"], help="outranks the policy's symlinks")
    parser.add_argument(
        "--fail-on", choices=["error", "warning", "never"], default="error", help="what fails (default: error)"
    )
    _outputs(parser)


def _count_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE|CONFIG", help="a checkpoint folder or a config.json")
    parser.add_argument("--family", metavar="NAME", help="count as this model family")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON ('-' is standard output)")


def _tensor_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="the folder with config.json, the index and the shards")
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
    names = "config, config-v3.2, index, policy, report, rule, finding or diff"
    parser.add_argument("name", metavar="NAME", nargs="?", help=names)


def _diff_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit codes: 0 nothing differs, 1 something does, 2 usage, 3 a side could not be read as a whole"
    parser.add_argument("old", metavar="OLD", help="a checkpoint folder or a report that `audit --json` wrote")
    parser.add_argument("new", metavar="NEW", help="the same, to compare with OLD")
    parser.add_argument("--json", metavar="FILE", help="write the difference as JSON ('-' is standard output)")
    parser.add_argument("--html", metavar="FILE", help="write it as one HTML page ('-' is standard output)")


def _verify_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit codes: 0 it is what was audited, and that passed; 1 it is not; 2 usage; 3 not readable"
    parser.add_argument("report", metavar="REPORT.json", help="the report of the audit")
    parser.add_argument("source", metavar="SOURCE", help="what is about to be released")
    parser.add_argument("--fingerprint", metavar="HEX", help="what the audit's own output said, beside the report")
    parser.add_argument(
        "--no-digests", action="store_true", help="do not read the shards against the SHA-256 of a full audit"
    )


def _lint_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit codes: 0 passed, 1 failed, 2 usage, 3 a file could not be judged"
    parser.add_argument("files", metavar="FILE", nargs="+", help="config.json or model.safetensors.index.json")
    parser.add_argument("--family", metavar="NAME", help="judge as this model family whatever model_type says")


_COMMANDS = {
    "audit": ("audit a checkpoint: a verdict and every finding", _audit_options),
    "count": ("parameter figures by every convention", _count_options),
    "tensor": ("one tensor: expected, actual, shard, byte range, scale", _tensor_options),
    "report": ("show a saved report again, in any format", _report_options),
    "rules": ("the catalogue of rules", _rules_options),
    "rule": ("one rule's page", _rule_options),
    "forge": ("write a synthetic checkpoint, sound or with one defect", _forge_options),
    "schema": ("a JSON Schema", _schema_options),
    "diff": ("what changed between two checkpoints or two reports", _diff_options),
    "verify": ("whether SOURCE is what a report audited, and passed", _verify_options),
    "lint": ("config.json and the index alone, without a shard", _lint_options),
}


def _outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON ('-' is standard output)")
    parser.add_argument("--html", metavar="FILE", help="write the report as one HTML page ('-' is standard output)")
    parser.add_argument("--quiet", action="store_true", help="print the verdict line alone")
