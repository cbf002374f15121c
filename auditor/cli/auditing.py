"""The audit as a command: what the options mean, a source begun before the models are imported, and interruptions."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from auditor.sources import Source


def audited(options: "argparse.Namespace", complain: "Callable[[str, int], int]") -> int:
    """Audit, deliver what was asked for, and return the exit code."""
    from auditor.cli.outputs import check_outputs, deliver

    check_outputs(options)
    progress = _progress(options)
    reading = _reading(options, progress)
    source = _begin(options)
    from auditor.cli import terminal  # noqa: F401  # while headers come, not when they all have
    from auditor.run import conduct

    try:
        report = conduct(
            source,
            reading=reading,
            family=options.family,
            policy=options.policy,
            baseline=options.baseline,
            symlinks=options.symlinks,
            fail_on=options.fail_on,
            progress=progress,
            revision=options.revision,
            cache=not options.no_cache,
            summarised=_writes(options),
        )
    finally:
        if progress is not None:
            progress.close()
        if not isinstance(source, str):
            source.close()  # where the audit has not come so far
    return deliver(report, options, complain)


def _reading(options: "argparse.Namespace", progress: "Any") -> "Any":
    """How content is to be read; None at depth headers, where the options of reading have no meaning."""
    from auditor.errors import UsageError

    if options.depth == "headers":
        given = [name for name in ("seed", "sample_bytes", "jobs", "resume") if getattr(options, name) is not None]
        given += ["resume_shared"] * options.resume_shared + ["no_digests"] * options.no_digests
        given += ["device"] * (options.device != "auto")
        if given:
            name = given[0].replace("_", "-")
            raise UsageError(f"--{name} is for reading tensor data: add --depth sample or --depth full")
        return None
    from auditor.content import SAMPLE_BYTES, Reading

    if options.sample_bytes is not None and options.depth == "full":
        raise UsageError("--sample-bytes bounds a sample: use --depth sample, or leave it out")
    return Reading(
        depth=options.depth,
        seed=options.seed,
        sample_bytes=options.sample_bytes or SAMPLE_BYTES,
        device=options.device,
        jobs=options.jobs,
        resume=options.resume,
        resume_shared=options.resume_shared,
        digests=not options.no_digests,
        progress=None if progress is None else progress.content,
        preparing=None if progress is None else progress.preparing,
    )


def _writes(options: "argparse.Namespace") -> bool:
    """Whether a report is written at all: what is only printed shows no storage and no parallelism."""
    return any(getattr(options, kind, None) is not None for kind in ("json", "html"))


def _begin(options: "argparse.Namespace") -> "str | Source":
    """Begin to fetch what an audit with default limits reads, before the models are imported; what to audit."""
    if "://" not in options.source or options.policy is not None:
        return str(options.source)
    from auditor.errors import AuditorError
    from auditor.sources import open_source
    from auditor.sources.begin import fetch

    try:
        source = open_source(options.source, revision=options.revision, cache=not options.no_cache)
    except AuditorError:
        return str(options.source)  # the audit meets it again, when it knows that all else is right
    if source.remote:
        fetch(source)
    return source


def _progress(options: "argparse.Namespace") -> "Any":
    """A progress line on a terminal's standard error, or None."""
    if options.quiet or not sys.stderr.isatty():
        return None
    from auditor.cli.terminal import ProgressLine

    return ProgressLine()
