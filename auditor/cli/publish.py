"""`auditor publish REPORT.json… --site DIR`: saved reports on a static site with an index and history."""

import argparse

from auditor.cli.streams import write_out


def options(parser: argparse.ArgumentParser) -> None:
    """The reports and the site."""
    parser.add_argument("reports", metavar="REPORT.json", nargs="+", help="reports that `audit --json` wrote")
    parser.add_argument("--site", metavar="DIR", required=True, help="the site's folder, made or added to")


def run(options: argparse.Namespace) -> int:
    """Add them."""
    from auditor.reporting.publish import publish

    write_out(f"{publish(options.reports, options.site).summary()}\n", only_files=True)
    return 0
