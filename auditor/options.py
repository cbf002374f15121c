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
    parser.add_argument(
        "--depth",
        choices=["headers", "sample", "full"],
        default="headers",
        help="what is read: headers alone, also a sample of weight blocks, or every byte (default: headers)",
    )
    parser.add_argument("--family", metavar="NAME", help="audit as this model family whatever model_type says")
    parser.add_argument("--policy", metavar="FILE", help="a TOML policy: limits and symlinks")
    parser.add_argument(
        "--fail-on", choices=["error", "warning", "never"], default="error", help="what fails (default: error)"
    )
    _content_options(parser)
    _outputs(parser)


def _content_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("reading tensor data (--depth sample or full; extra 'content')")
    group.add_argument("--seed", type=int, metavar="N", help="what a sample draws from (default: a new one, reported)")
    group.add_argument(
        "--sample-bytes", type=_size, metavar="SIZE", help="the most that a sample reads, such as 500MB (default: 2GiB)"
    )
    group.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="what computes (default: a GPU where there is one)",
    )
    group.add_argument("--jobs", type=_positive, metavar="N", help="threads that read (default: one for each core)")
    group.add_argument("--resume", metavar="DIR", help="keep what is finished in DIR, and go on from there")
    group.add_argument("--no-digests", action="store_true", help="no SHA-256 of shards, no XXH3 of tensors: faster")


_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30,
          "TIB": 1 << 40}  # fmt: skip


def _size(text: str) -> int:
    """Bytes, from '500MB' or '2GiB'."""
    digits = text.rstrip("BIKMGTbikmgt ")
    unit = text[len(digits) :].strip().upper()
    try:
        count = int(float(digits) * _UNITS[unit if unit.endswith("B") or not unit else f"{unit}B"])
    except (ValueError, KeyError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write bytes, or such as 500MB or 2GiB") from None
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: needs to be at least 1 byte")
    return count


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: needs a whole number from 1 on")
    return int(text)


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


def _outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON ('-' is standard output)")
    parser.add_argument("--html", metavar="FILE", help="write the report as one HTML page ('-' is standard output)")
    parser.add_argument("--quiet", action="store_true", help="print the verdict line alone")
