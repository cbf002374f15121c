"""`auditor report REPORT.json`: a saved report again, in any format."""

import argparse

from auditor.cli.outputs import check_outputs, deliver, targets_of
from auditor.cli.outputs import options as outputs


def options(parser: argparse.ArgumentParser) -> None:
    """The report and where it goes."""
    parser.add_argument("report", metavar="REPORT.json", help="a report that `audit --json` wrote")
    outputs(parser)


def run(options: argparse.Namespace) -> int:
    """Read it back and write what was asked for."""
    from auditor.reporting.saved import read_report

    targets = targets_of(options)
    check_outputs(targets, read=[options.report])
    return deliver(read_report(options.report), targets, quiet=options.quiet)
