"""`auditor diff OLD NEW`: what changed between two checkpoints or reports, and whether NEW is OLD converted."""

import argparse
import sys

from auditor.cli.audit import positive, seed, size
from auditor.cli.outputs import check_outputs, targets_of, write_all
from auditor.cli.progress import ProgressLine

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from auditor.conversion import Comparing
    from auditor_schemas.diff import CheckpointDiff

INCOMPLETE = 3
_OF_VALUES = ("map", "sample_bytes", "seed", "jobs", "resume", "resume_shared")


def options(parser: argparse.ArgumentParser) -> None:
    """The two sides, what is compared, and where the difference goes."""
    parser.epilog = (
        "exit codes: 0 nothing differs, 1 something does, 2 usage, 3 a side could not be read as a whole; with "
        "--values 0 faithful, or lossy within the format, 1 not what a conversion gives, 3 not everything was compared"
    )
    parser.add_argument("old", metavar="OLD", help="a checkpoint folder or a report that `audit --json` wrote")
    parser.add_argument("new", metavar="NEW", help="the same, to compare with OLD")
    parser.add_argument("--json", metavar="FILE", help="write the difference as JSON ('-' is standard output)")
    parser.add_argument("--html", metavar="FILE", help="write it as one HTML page ('-' is standard output)")
    group = parser.add_argument_group("is NEW a faithful conversion of OLD? (two checkpoints; extra 'content')")
    group.add_argument(
        "--values", action="store_true", help="compare the values of every tensor; the exit code is theirs"
    )
    group.add_argument("--map", metavar="FILE", help="how names changed: lines of OLD => NEW, * for a part of a name")
    group.add_argument(
        "--sample-bytes", type=size, metavar="SIZE", help="read no more than this, such as 2GiB (default: everything)"
    )
    group.add_argument("--seed", type=seed, metavar="N", help="what a sample draws from (default: a new one)")
    group.add_argument("--jobs", type=positive, metavar="N", help="threads that read (default: one for each core)")
    group.add_argument(
        "--resume",
        metavar="PLACE",
        help="keep what is finished in PLACE, and go on from there: a folder, or s3://, gs:// or az://bucket/prefix",
    )
    group.add_argument(
        "--resume-shared", action="store_true", help="others may write to that folder, and are trusted with the verdict"
    )


def run(options: argparse.Namespace) -> int:
    """Compare, and print or write the difference."""
    from auditor.cli.diff_text import lines

    targets = targets_of(options)
    read = [] if options.map is None else [options.map]
    check_outputs(targets, sources=[options.old, options.new], read=read)
    diff = _compared(options)
    formats = {"json": lambda: _json(diff), "html": lambda: _html(diff)}
    return write_all(
        [(target, formats[name]) for name, target in targets.items()],
        lambda: sys.stdout.write("".join(f"{line}\n" for line in lines(diff))),
        _code(diff),
    )


def _compared(options: argparse.Namespace) -> "CheckpointDiff":
    if not options.values:
        from auditor.errors import UsageError
        from auditor.questions.diff import compare

        given = [name for name in _OF_VALUES if getattr(options, name)]
        if given:
            raise UsageError(f"--{given[0].replace('_', '-')} is for comparing values: add --values")
        return compare(options.old, options.new)
    progress = _progress()
    how = _how(options, progress)
    from auditor.questions.values import compare_values

    try:
        return compare_values(options.old, options.new, how)
    finally:
        if progress is not None:
            progress.close()


def _how(options: argparse.Namespace, progress: "ProgressLine | None") -> "Comparing":
    from auditor.conversion import Comparing

    return Comparing(
        map=options.map,
        sample_bytes=options.sample_bytes,
        seed=options.seed,
        jobs=options.jobs,
        resume=options.resume,
        resume_shared=options.resume_shared,
        progress=None if progress is None else progress.content,
        preparing=None if progress is None else progress.preparing,
    )


def _progress() -> "ProgressLine | None":
    """A progress line on a terminal's standard error, or None."""
    return ProgressLine() if sys.stderr.isatty() else None


def _code(diff: "CheckpointDiff") -> int:
    if diff.values is not None:
        from auditor.conversion.judge import EXIT_CODES

        return EXIT_CODES[diff.values.verdict]
    return INCOMPLETE if diff.incomplete else int(not diff.same)


def _json(diff: "CheckpointDiff") -> str:
    from auditor.questions.diff import written

    return written(diff)


def _html(diff: "CheckpointDiff") -> str:
    from auditor_reports.diff import render

    return render(diff)
