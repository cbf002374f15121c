"""The arguments of every command, and usage errors that are one line with the mend."""

import argparse
import sys
from typing import Any, NoReturn

from auditor.cli.outputs import tell
from auditor.reporting.formats import FORMATS

USAGE = 2


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with the mend, exit 2."""

    def error(self, message: str) -> NoReturn:
        from auditor.text import shown

        self.exit(USAGE, f"auditor: {shown(message)} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        if message and file is sys.stdout:
            tell(lambda: file.write(message))
        else:
            super()._print_message(message, file)


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
    parser.add_argument(
        "--depth",
        choices=["headers", "sample", "full"],
        default="headers",
        help="what is read: headers alone, also a sample of weight blocks, or every byte (default: headers)",
    )
    parser.add_argument("--family", metavar="NAME", help="audit as this model family whatever model_type says")
    parser.add_argument("--policy", metavar="FILE", help="a TOML policy: what gates, is required, allowed, waived")
    parser.add_argument("--baseline", metavar="REPORT.json", help="a report whose findings do not gate again")
    parser.add_argument("--symlinks", choices=["follow", "inside"], help="outranks the policy's symlinks")
    parser.add_argument(
        "--fail-on", choices=["error", "warning", "never"], default="error", help="what fails (default: error)"
    )
    _content_options(parser)
    _outputs(parser)


def _content_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("reading tensor data (--depth sample or full; extra 'content')")
    group.add_argument("--seed", type=_seed, metavar="N", help="what a sample draws from (default: a new one)")
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
    group.add_argument(
        "--resume-shared", action="store_true", help="others may write to that folder, and are trusted with the verdict"
    )
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


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r}: needs a whole number from 0 to 2^63 - 1")
    return int(text)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: needs a whole number from 1 on")
    return int(text)


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


def _publish_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reports", metavar="REPORT.json", nargs="+", help="reports that `audit --json` wrote")
    parser.add_argument("--site", metavar="DIR", required=True, help="the site's folder, made or added to")


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
    parser.epilog = (
        "exit codes: 0 it is what was audited, and that passed; 1 it is not; 2 usage, or a report that proves nothing; "
        "3 not readable"
    )
    parser.add_argument("report", metavar="REPORT.json", help="the report of the audit")
    parser.add_argument("source", metavar="SOURCE", help="what is about to be released")
    parser.add_argument("--fingerprint", metavar="HEX", help="what the audit's own output said, beside the report")
    parser.add_argument(
        "--no-digests", action="store_true", help="do not read the shards against the SHA-256 of a full audit"
    )


def _lint_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit codes: 0 passed, 1 failed, 2 usage, 3 a file could not be judged"
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="config.json, model.safetensors.index.json, or the folder of both"
    )
    parser.add_argument("--family", metavar="NAME", help="judge as this model family whatever model_type says")


_COMMANDS = {
    "audit": ("audit a checkpoint: a verdict and every finding", _audit_options),
    "count": ("parameter figures by every convention", _count_options),
    "tensor": ("one tensor: expected, actual, shard, byte range, scale", _tensor_options),
    "report": ("show a saved report again, in any format", _report_options),
    "publish": ("add saved reports to a static site with an index and history", _publish_options),
    "rules": ("the catalogue of rules", _rules_options),
    "rule": ("one rule's page", _rule_options),
    "forge": ("write a synthetic checkpoint, sound or with one defect", _forge_options),
    "schema": ("a JSON Schema", _schema_options),
    "diff": ("what changed between two checkpoints or two reports", _diff_options),
    "verify": ("whether SOURCE is what a report audited, and passed", _verify_options),
    "lint": ("config.json and the index alone, without a shard", _lint_options),
}


def _source(parser: argparse.ArgumentParser, metavar: str = "SOURCE", other: str = "") -> None:
    places = "hf://org/name[@revision], s3://, gs:// or az://bucket/prefix, or https://host/path"
    parser.add_argument("source", metavar=metavar, help=f"{other}a folder, {places}")
    parser.add_argument("--revision", metavar="REV", help="the hub's branch, tag or commit (default: main)")
    parser.add_argument("--no-cache", action="store_true", help="keep no headers of remote sources, and use none")


def _outputs(parser: argparse.ArgumentParser) -> None:
    for name, each in FORMATS.items():
        text = each.help if each.folder else f"{each.help} ('-' is standard output)"
        parser.add_argument(f"--{name}", metavar="DIR" if each.folder else "FILE", help=text)
    parser.add_argument("--quiet", action="store_true", help="print the verdict line alone")
