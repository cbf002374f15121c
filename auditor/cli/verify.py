"""`auditor verify REPORT.json SOURCE`: whether a checkpoint is what a report audited, and passed."""

import argparse

from auditor.cli.streams import write_out


def options(parser: argparse.ArgumentParser) -> None:
    """The report, the checkpoint, and how much is read again."""
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


def run(options: argparse.Namespace) -> int:
    """Print what was compared."""
    from auditor.questions.verify import verify

    text, code = verify(options.report, options.source, digests=not options.no_digests, pinned=options.fingerprint)
    write_out(text)
    return code
