"""`auditor read SOURCE --resume PLACE --part I/N`: one share of a full audit's reading, for jobs side by side."""

import argparse

from auditor.cli.arguments import source
from auditor.cli.audit import reading_options
from auditor.cli.progress import progress_of, progress_options, told_by
from auditor.cli.streams import write_out


def options(parser: argparse.ArgumentParser) -> None:
    """What to read, which share of it, and where it is kept."""
    parser.description = "Reads one share of a checkpoint for an audit at depth full that collects them; no verdict."
    parser.epilog = "exit codes: 0 the share is read; 2 usage; 3 it is not, or not all of it"
    source(parser)
    parser.add_argument("--depth", choices=["full"], default="full", help="what is read: every byte")
    parser.add_argument("--part", metavar="I/N", required=True, help="which share: the Ith of N, balanced by size")
    parser.add_argument("--family", metavar="NAME", help="read as this model family, as the audit will")
    parser.add_argument("--policy", metavar="FILE", help="the policy of the audit, for its limits and symlinks")
    parser.add_argument("--symlinks", choices=["follow", "inside"], help="outranks the policy's symlinks")
    parser.add_argument("--quiet", action="store_true", help="print nothing but what is not read")
    reading_options(parser.add_argument_group("reading"), parts=True)
    progress_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read, and print what was done."""
    from auditor.content import GPU_SHARE, Reading
    from auditor.gather import Subject
    from auditor.questions.read import part_of, read_part

    progress = progress_of(options)
    reading = Reading(
        depth=options.depth,
        part=part_of(options.part),
        device=options.device,
        jobs=options.jobs,
        resume=options.resume,
        resume_shared=options.resume_shared,
        digests=not options.no_digests,
        engine=options.engine,
        gpu_share=options.gpu_share or GPU_SHARE,
        **told_by(progress),
    )
    subject = Subject(
        source=options.source,
        family=options.family,
        revision=options.revision,
        cache=not options.no_cache,
        symlinks=options.symlinks,
        reading=reading,
    )
    try:
        text, code = read_part(subject, options.policy, progress)
    finally:
        if progress is not None:
            progress.close()
    if code or not options.quiet:
        write_out(text)
    return code
