"""`auditor diff OLD NEW`: what changed between two checkpoints or two reports."""

import argparse
import sys

from auditor.cli.outputs import check_outputs, targets_of, write_all

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from auditor_schemas.diff import CheckpointDiff

INCOMPLETE = 3


def options(parser: argparse.ArgumentParser) -> None:
    """The two sides, and where the difference goes."""
    parser.epilog = "exit codes: 0 nothing differs, 1 something does, 2 usage, 3 a side could not be read as a whole"
    parser.add_argument("old", metavar="OLD", help="a checkpoint folder or a report that `audit --json` wrote")
    parser.add_argument("new", metavar="NEW", help="the same, to compare with OLD")
    parser.add_argument("--json", metavar="FILE", help="write the difference as JSON ('-' is standard output)")
    parser.add_argument("--html", metavar="FILE", help="write it as one HTML page ('-' is standard output)")


def run(options: argparse.Namespace) -> int:
    """Compare, and print or write the difference."""
    from auditor.cli.diff_text import lines
    from auditor.questions.diff import compare

    targets = targets_of(options)
    check_outputs(targets, sources=[options.old, options.new])
    diff = compare(options.old, options.new)
    formats = {"json": lambda: _json(diff), "html": lambda: _html(diff)}
    return write_all(
        [(target, formats[name]) for name, target in targets.items()],
        lambda: sys.stdout.write("".join(f"{line}\n" for line in lines(diff))),
        INCOMPLETE if diff.incomplete else int(not diff.same),
    )


def _json(diff: "CheckpointDiff") -> str:
    from auditor.text import shown_json

    return shown_json(diff.model_dump_json(indent=2)) + "\n"


def _html(diff: "CheckpointDiff") -> str:
    from auditor_reports.diff import render

    return render(diff)
